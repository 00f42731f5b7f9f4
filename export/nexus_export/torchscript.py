"""Export a torch module as a template: its graph, with the weights left out."""

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from nexus_export.template import strip

#: LayerNormalization came with 17; every engine we serve with reads it.
OPSET = 17


def export_template(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    dynamic_axes: Mapping[str, Mapping[int, str]],
) -> onnx.ModelProto:
    """Trace `module` on `inputs` (ordered, keys are the ONNX names) and return its template.

    `module` must return a tuple of tensors, as many as `outputs`. Its weights are overwritten: the exporter
    merges initializers of equal content, as those of fresh norms are, and the merged ones would lose their
    names, so all are made different first.
    """
    module.eval()
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            tensor.uniform_(0.5, 1.0)
        shapes = [tuple(output.shape) for output in module(*inputs.values())]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The exporter announces its successor; that one renames weights and fails on some of our graphs.
        warnings.simplefilter("ignore")
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            path,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: dict(axes) for name, axes in dynamic_axes.items()},
            opset_version=OPSET,
            do_constant_folding=False,
            dynamo=False,
        )
        model = onnx.load(str(path))
    for output, shape in zip(model.graph.output, shapes, strict=True):
        # Behind a dynamic reshape the exporter no longer knows the sizes that are fixed.
        for axis, (dim, size) in enumerate(zip(output.type.tensor_type.shape.dim, shape, strict=True)):
            if axis not in dynamic_axes[output.name]:
                dim.dim_value = size
    return strip(model)
