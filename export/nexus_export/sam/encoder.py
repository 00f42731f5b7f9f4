"""SAM's image encoder as a network: how it reads pixels, and the default one, MobileSAM's.

Its graph is the committed template of TinyViT (`nexus_export.sam.tiny_vit`), which waits for the weights of a published
checkpoint or ONNX export (`published_onnx.encoder_weights`). Input and output are documented at
`nexus_export.sam.image_encoder.SamEncoder`. Needs no torch.
"""

from nexus_export.paths import TEMPLATES

TEMPLATE = TEMPLATES / "sam_encoder_tiny_vit.onnx"

IMAGE_SIZE = 1024

#: Mean and deviation of RGB in [0, 255], those of segment_anything's `Sam.preprocess`.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)

#: The uint8 colour that a letterbox must pad with. SAM pads with zeros after the normalisation, which no uint8 is
#: exactly; the rounded mean is nearest, less than half a grey level or 0.009 off.
PADDING_COLOUR = (124, 116, 104)
