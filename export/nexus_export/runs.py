"""Networks as functions: a torch module, or an ONNX file in onnxruntime, behind the network's own names."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexus_export.export import Array, Run
from nexus_export.networks import Network

if TYPE_CHECKING:
    from torch import nn

_FATAL = 4


def torch_run(module: "nn.Module", network: Network) -> Run:
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


def open_session(path: Path) -> Any:
    """The file in onnxruntime on the CPU, as it is: what the server adds to it is no matter of its quality."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL  # what fails is raised as well
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def onnx_run(path: Path) -> Run:
    """The ONNX file in onnxruntime on the CPU."""
    session = open_session(path)
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    return run
