"""Export SAM's decoder and encoders as templates.

`python -m nexus_export.families.sam.templates` writes the committed ones after a change to their torch code. Those of
the larger encoders depend on the checkpoint and are made from it, see `checkpoint`.
"""

import onnx

from nexus_export.families.sam.constants import DECODER_TEMPLATE, ENCODER_TEMPLATE
from nexus_export.families.sam.image_encoder import SamEncoder
from nexus_export.families.sam.modules import SamDecoder
from nexus_export.families.sam.tiny_vit import TinyVit, fold_norms
from nexus_export.networks import NETWORKS
from nexus_export.onnx_graphs.template import shorten_names
from nexus_export.onnx_graphs.torchscript import export_network


def export_sam_decoder() -> onnx.ModelProto:
    """The decoder's graph without weights, dynamic in the batch and in the number of points."""
    return export_network(SamDecoder(), NETWORKS["sam_decoder"], batch=2)


def export_sam_encoder(module: SamEncoder) -> onnx.ModelProto:
    """An encoder's graph without weights, dynamic in the batch."""
    return shorten_names(export_network(module, NETWORKS["sam_encoder"]))


def export_tiny_vit() -> onnx.ModelProto:
    """The graph of MobileSAM's encoder without weights, its normalisations folded into the convolutions."""
    image_encoder = TinyVit().eval()
    fold_norms(image_encoder)
    return export_sam_encoder(SamEncoder(image_encoder))


if __name__ == "__main__":
    onnx.save(export_sam_decoder(), str(DECODER_TEMPLATE))
    onnx.save(export_tiny_vit(), str(ENCODER_TEMPLATE))
