"""Export SAM's decoder and encoders as templates.

`python -m nexus_export.families.sam.templates` writes the committed ones after a change to their torch code. Those of
the larger encoders depend on the checkpoint and are made from it, see `checkpoint`.
"""

import onnx
import torch

from nexus_export.families.sam.constants import DECODER_TEMPLATE, ENCODER_TEMPLATE, IMAGE_SIZE
from nexus_export.families.sam.image_encoder import SamEncoder
from nexus_export.families.sam.modules import EMBEDDING_SIZE, SamDecoder
from nexus_export.families.sam.tiny_vit import TinyVit, fold_norms
from nexus_export.families.sam.transformer import CHANNELS
from nexus_export.onnx_graphs.template import shorten_names
from nexus_export.onnx_graphs.torchscript import export_template


def export_sam_decoder() -> onnx.ModelProto:
    """The decoder's graph without weights, dynamic in the batch and in the number of points."""
    batch, points, side = 2, 3, 4 * EMBEDDING_SIZE
    inputs = {
        "embedding": torch.randn(batch, CHANNELS, EMBEDDING_SIZE, EMBEDDING_SIZE),
        "points": torch.rand(batch, points, 2) * IMAGE_SIZE,
        "labels": torch.ones(batch, points),
        "mask_input": torch.randn(batch, 1, side, side),
        "has_mask": torch.ones(batch, 1),
    }
    outputs = ("masks", "scores")
    dynamic_axes = {name: {0: "batch"} for name in (*inputs, *outputs)}
    dynamic_axes["points"][1] = dynamic_axes["labels"][1] = "points"
    return export_template(SamDecoder(), inputs, outputs, dynamic_axes)


def export_sam_encoder(module: SamEncoder) -> onnx.ModelProto:
    """An encoder's graph without weights, dynamic in the batch."""
    inputs = {"image": torch.zeros(1, IMAGE_SIZE, IMAGE_SIZE, 3, dtype=torch.uint8)}
    dynamic_axes = {name: {0: "batch"} for name in ("image", "embedding")}
    return shorten_names(export_template(module, inputs, ("embedding",), dynamic_axes))


def export_tiny_vit() -> onnx.ModelProto:
    """The graph of MobileSAM's encoder without weights, its normalisations folded into the convolutions."""
    image_encoder = TinyVit().eval()
    fold_norms(image_encoder)
    return export_sam_encoder(SamEncoder(image_encoder))


if __name__ == "__main__":
    onnx.save(export_sam_decoder(), str(DECODER_TEMPLATE))
    onnx.save(export_tiny_vit(), str(ENCODER_TEMPLATE))
