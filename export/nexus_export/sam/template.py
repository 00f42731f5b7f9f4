"""Export SAM's decoder and MobileSAM's encoder anew, after a change to their torch code.

`python -m nexus_export.sam.template` writes the templates; those of the larger encoders depend on the checkpoint and
are made from it, see `nexus_export.sam.checkpoint`.
"""

import onnx
import torch

from nexus_export.onnx_graphs.template import shorten_names
from nexus_export.onnx_graphs.torchscript import export_template
from nexus_export.sam import decoder, encoder
from nexus_export.sam.image_encoder import SamEncoder
from nexus_export.sam.modules import EMBEDDING_SIZE, SamDecoder
from nexus_export.sam.tiny_vit import TinyVit, fold_norms
from nexus_export.sam.transformer import CHANNELS


def export_sam_decoder() -> onnx.ModelProto:
    """The decoder's graph without weights, dynamic in the batch and in the number of points."""
    batch, points, side = 2, 3, 4 * EMBEDDING_SIZE
    inputs = {
        "embedding": torch.randn(batch, CHANNELS, EMBEDDING_SIZE, EMBEDDING_SIZE),
        "points": torch.rand(batch, points, 2) * encoder.IMAGE_SIZE,
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
    inputs = {"image": torch.zeros(1, encoder.IMAGE_SIZE, encoder.IMAGE_SIZE, 3, dtype=torch.uint8)}
    dynamic_axes = {name: {0: "batch"} for name in ("image", "embedding")}
    return shorten_names(export_template(module, inputs, ("embedding",), dynamic_axes))


def export_tiny_vit() -> onnx.ModelProto:
    """The graph of MobileSAM's encoder without weights, its normalisations folded into the convolutions."""
    image_encoder = TinyVit().eval()
    fold_norms(image_encoder)
    return export_sam_encoder(SamEncoder(image_encoder))


if __name__ == "__main__":
    onnx.save(export_sam_decoder(), str(decoder.TEMPLATE))
    onnx.save(export_tiny_vit(), str(encoder.TEMPLATE))
