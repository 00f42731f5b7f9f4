"""Segment Anything 2.1: the image encoder and the decoder as networks; nothing of its video part."""
