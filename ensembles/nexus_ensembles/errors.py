"""The errors that a pipeline may raise, each with its code for the caller and its outcome for the metrics.

`code` is the member of Triton's TritonError, `outcome` the label of the metric nexus_fills_total.
"""

from typing import ClassVar


class PipelineError(Exception):
    """The root. Its text goes to the caller as it is: one sentence, no path, no class name, no stack."""

    code: ClassVar[str] = "INTERNAL"
    outcome: ClassVar[str] = "failed"


class BadInput(PipelineError):
    """The caller's mistake: the input cannot be served, and would not be on another try."""

    code = "INVALID_ARG"
    outcome = "rejected"


class ImageNotHeld(PipelineError):
    """An image was sent by reference, and its bytes are not held here (any more); send them.

    Its text begins with "image sha256:".
    """

    code = "NOT_FOUND"
    outcome = "rejected"


class Overloaded(PipelineError):
    """The pipeline is full, no turn came in time, or a network's process is being restarted; try again."""

    code = "UNAVAILABLE"
    outcome = "overloaded"


class OutOfMemory(PipelineError):
    """A network's device has no memory left for the call; a smaller network may have.

    Its text begins with "out of memory:".
    """

    code = "UNAVAILABLE"
    outcome = "out_of_memory"


class Cancelled(PipelineError):
    """The caller cancelled, disconnected or ran out of time before the pipeline had finished."""

    code = "CANCELLED"
    outcome = "cancelled"


class NotBuilt(PipelineError):
    """A network that the pipeline can do without is not in the model repository."""

    code = "INVALID_ARG"
    outcome = "rejected"


class NetworkFailed(PipelineError):
    """A network failed, through no fault of the input; the server's log has the reason."""


# How the engines word it: onnxruntime, its CUDA libraries, the C++ library; TensorRT, CUDA and torch.
_OUT_OF_MEMORY = (
    "failed to allocate memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "bad_alloc",
    "bad allocation",
    "outofmemory",
    "out of memory",
)


def is_out_of_memory(message: str) -> bool:
    """True if an engine's error message means that the device's memory is exhausted."""
    return any(words in message.lower() for words in _OUT_OF_MEMORY)
