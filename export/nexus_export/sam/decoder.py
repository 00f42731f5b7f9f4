"""SAM's decoder as a network: one graph, the committed template, serves every published checkpoint.

It waits for the weights of a checkpoint or of a published ONNX export (`published_onnx.decoder_weights`). Inputs and
outputs are documented at `nexus_export.sam.modules.SamDecoder`. Needs no torch.
"""

from nexus_export.paths import TEMPLATES

TEMPLATE = TEMPLATES / "sam_decoder.onnx"
