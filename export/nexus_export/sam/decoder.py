"""SAM's decoder as a network: one graph, the committed template, serves every published checkpoint.

It waits for the weights of a checkpoint or of a published ONNX export (`published_onnx.decoder_weights`). Inputs and
outputs are documented at `nexus_export.sam.modules.SamDecoder`. Needs no torch.
"""

from nexus_export.paths import TEMPLATES

TEMPLATE = TEMPLATES / "sam_decoder.onnx"

#: Labels of points beside 1 (positive) and 0 (negative): a box's corners, the point that stands for no box, and what
#: fills prompts up to the batch's number of points, which no attention sees.
BOX_CORNERS = (2, 3)
NOT_A_POINT = -1
FILLER = -2
