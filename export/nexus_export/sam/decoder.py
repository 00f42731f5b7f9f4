"""SAM's decoder as a network: the committed template, filled with the weights of a published export.

The graph, its inputs and its outputs are documented at `nexus_export.sam.modules.SamDecoder`.
"""

import onnx

from nexus_export.onnx_graphs.template import fill
from nexus_export.paths import TEMPLATES
from nexus_export.sam.published_onnx import decoder_weights

TEMPLATE = TEMPLATES / "sam_decoder.onnx"


def build_sam_decoder(published: onnx.ModelProto) -> onnx.ModelProto:
    """Rebuild the decoder of a published sam.onnx, batched over images and with all of its masks.

    Raises:
        TemplateError: the file is not a SAM decoder's.
    """
    return fill(onnx.load(str(TEMPLATE)), decoder_weights(published))
