"""SAM's constants: how its encoder reads pixels, which labels its decoder knows, and the committed templates.

The encoder's template is TinyViT's, MobileSAM's default; the decoder's serves every published checkpoint. Both wait
for the weights of a checkpoint or of a published ONNX export (`published_onnx`). Needs no torch.
"""

from nexus_export.paths import TEMPLATES

ENCODER_TEMPLATE = TEMPLATES / "sam_encoder_tiny_vit.onnx"
DECODER_TEMPLATE = TEMPLATES / "sam_decoder.onnx"

IMAGE_SIZE = 1024

# Mean and standard deviation of RGB in [0, 255], those of segment_anything's `Sam.preprocess`.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)

# The uint8 colour that a letterbox must pad with. SAM pads with zeros after the normalisation, which no uint8 is
# exactly; the rounded mean is nearest, less than half a grey level or 0.009 off.
PADDING_COLOUR = (124, 116, 104)

# Labels of points beside 1 (positive) and 0 (negative): a box's corners, the point that stands for no box, and the
# filler that brings prompts up to the batch's number of points, which no attention sees.
BOX_CORNERS = (2, 3)
NOT_A_POINT = -1
FILLER = -2
