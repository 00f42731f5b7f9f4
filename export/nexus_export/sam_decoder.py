"""SAM's decoder as a network: the committed template, filled with the weights of a published export.

The graph, its inputs and its outputs are documented at `nexus_export.sam_modules.SamDecoder`.
"""

from pathlib import Path

import onnx

from nexus_export.sam_checkpoint import decoder_weights
from nexus_export.template import fill

TEMPLATE = Path(__file__).parent / "templates" / "sam_decoder.onnx"


def build_sam_decoder(published: onnx.ModelProto) -> onnx.ModelProto:
    """Rebuild the decoder of a published sam.onnx, batched over images and with all of its masks.

    Raises:
        TemplateError: the file is not a SAM decoder's.
    """
    return fill(onnx.load(str(TEMPLATE)), decoder_weights(published))
