"""Export SAM's decoder anew, after a change to its torch code: `python -m nexus_export.sam.template`."""

import onnx
import torch

from nexus_export.onnx_graphs.torchscript import export_template
from nexus_export.sam.decoder import TEMPLATE
from nexus_export.sam.modules import EMBEDDING_SIZE, IMAGE_SIZE, SamDecoder
from nexus_export.sam.transformer import CHANNELS


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


if __name__ == "__main__":
    onnx.save(export_sam_decoder(), str(TEMPLATE))
