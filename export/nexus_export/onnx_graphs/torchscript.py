"""Export a torch module as a template: its graph, with the weights left out."""

import tempfile
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import onnx
import torch
from onnx import TensorProto
from torch import Tensor, nn

from nexus_export.networks import Network
from nexus_export.onnx_graphs.attention_symbolic import fused_attention
from nexus_export.onnx_graphs.template import strip

# LayerNormalization came with 17; every engine we serve with reads it.
OPSET = 17

_DTYPES = {"UINT8": torch.uint8, "INT32": torch.int32, "FP32": torch.float32}


def export_template(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    dynamic_axes: Mapping[str, Mapping[int, str]],
) -> onnx.ModelProto:
    """Trace `module` on `inputs` (ordered, keys are the ONNX names) and return its template.

    `module` must return a tensor, or a tuple of as many as `outputs`. The template waits for the tensors of
    `module.state_dict()` that the graph reads; buffers that are not in it are constants. No weight is copied,
    so a module of 10 GB takes little more than that. Attention becomes one node, see
    `attention_symbolic`.
    """
    module.eval()
    with (
        tempfile.TemporaryDirectory() as folder,
        warnings.catch_warnings(),
        torch.no_grad(),
        fused_attention(OPSET),
    ):
        results = module(*inputs.values())
        shapes = [tuple(result.shape) for result in ([results] if isinstance(results, Tensor) else results)]
        # The exporter announces its successor, which renames weights and fails on some of our graphs.
        # The tracer's warnings are of branches on shapes, which the tests cover at several sizes.
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
            # Weights as inputs without values: as initializers, those of equal content would be merged, as
            # the weights of fresh norms are, and lose their names.
            export_params=False,
            keep_initializers_as_inputs=True,
        )
        model = onnx.load(str(path))
    _declare_weights(model, inputs)
    for output, shape in zip(model.graph.output, shapes, strict=True):
        # Behind a dynamic reshape the exporter no longer knows the sizes that are fixed.
        for axis, (dim, size) in enumerate(zip(output.type.tensor_type.shape.dim, shape, strict=True)):
            if axis not in dynamic_axes[output.name]:
                dim.dim_value = size
    return strip(model)


def export_network(
    module: nn.Module, network: Network, batch: int = 1, sizes: Mapping[str, int] = MappingProxyType({})
) -> onnx.ModelProto:
    """The template of `module`, which takes and returns the tensors of `network`; dynamic axes are the network's.

    `sizes` are those of dynamic axes while tracing, by name; an axis that it leaves out has its usual size.
    """
    usual = {name: free.usual for name, free in network.axes.items() if free is not None}
    inputs = {
        tensor.name: torch.zeros(
            batch,
            *(dim if isinstance(dim, int) else {**usual, **sizes}[dim] for dim in tensor.dims),
            dtype=_DTYPES[tensor.dtype],
        )
        for tensor in network.inputs
    }
    axes = {
        tensor.name: {0: "batch"}
        | {axis: dim for axis, dim in enumerate(tensor.dims, 1) if isinstance(dim, str)}
        for tensor in (*network.inputs, *network.outputs)
    }
    return export_template(module, inputs, [tensor.name for tensor in network.outputs], axes)


def _declare_weights(model: onnx.ModelProto, inputs: Collection[str]) -> None:
    """Turn the graph's inputs that are weights, all but `inputs`, into initializers without data."""
    for value in [value for value in model.graph.input if value.name not in inputs]:
        model.graph.input.remove(value)
        tensor = value.type.tensor_type
        dims = [dim.dim_value for dim in tensor.shape.dim]
        model.graph.initializer.append(TensorProto(name=value.name, data_type=tensor.elem_type, dims=dims))
