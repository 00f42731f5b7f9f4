"""Segment Anything: the image encoder and the decoder as networks."""
