"""Networks as functions: a torch module, or an ONNX file in onnxruntime, behind the network's own names."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from nexus_export.artifacts import file_bytes
from nexus_export.exported import Array, ExportedNetwork, InferenceFn
from nexus_export.networks import Network
from nexus_export.onnx_graphs.template import weight_shapes
from nexus_export.onnx_graphs.writing import INLINE_BYTES

if TYPE_CHECKING:
    from torch import nn

_FATAL = 4
# Keys of onnxruntime_session_options_config_keys.h.
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
_NO_PREPACKING = "session.disable_prepacking"
# Without VNNI, x86-64 processors add products of UINT8 and INT8 in 16 bits, which saturates with weights of 8 bits, as
# GPUs get them. With this entry onnxruntime turns such weights into UINT8 there and adds exactly, if more slowly; with
# VNNI, and for weights of 7 bits, it changes nothing. So a gate has the same figure on every processor.
EXACT_INT8 = "session.x64quantprecision"


def torch_run(module: "nn.Module", network: Network) -> InferenceFn:
    """The module in eval mode; it takes the network's inputs in their order and returns its outputs in theirs."""
    import torch

    module.eval()

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        with torch.no_grad():
            tensors = [torch.from_numpy(inputs[tensor.name].copy()) for tensor in network.inputs]
            results = module(*tensors)
        found = [results] if isinstance(results, torch.Tensor) else results
        return {tensor.name: result.numpy() for tensor, result in zip(network.outputs, found, strict=True)}

    return run


def exported_module(module: "nn.Module", network: Network, template: onnx.ModelProto) -> ExportedNetwork:
    """The module with its own weights for `template`, and itself as the reference."""
    state = module.state_dict()
    weights = {name: state[name].numpy() for name in weight_shapes(template)}
    return ExportedNetwork(network, template, weights, partial(torch_run, module, network))


def open_session(path: Path, graph: bytes | None = None) -> Any:
    """The file in onnxruntime on the CPU, without the settings that the server adds: they do not change quality.

    `graph` is loaded in the file's place, with the weights that lie beside the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL  # failures are raised as well
    options.add_session_config_entry(EXACT_INT8, "1")
    if file_bytes(path) > INLINE_BYTES:
        # It keeps a second copy of every weight.
        options.add_session_config_entry(_NO_PREPACKING, "1")
    if graph is not None:
        options.add_session_config_entry(_WEIGHTS_FOLDER, str(path.parent))
    return onnxruntime.InferenceSession(graph or str(path), options, providers=["CPUExecutionProvider"])


def onnx_run(path: Path, graph: bytes | None = None) -> InferenceFn:
    """The ONNX file in onnxruntime on the CPU, or `graph` in its place, see `open_session`."""
    session = open_session(path, graph)
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    return run
