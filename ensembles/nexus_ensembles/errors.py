"""What a pipeline may raise; `triton` turns each into a gRPC status.

PipelineError
+-- BadInput        INVALID_ARGUMENT: the caller's mistake, in one plain sentence
+-- Overloaded      UNAVAILABLE: a network cannot take the call now; try again
+-- OutOfMemory     UNAVAILABLE: a network's device has no memory left for the call; a smaller network may have
+-- Cancelled       CANCELLED: the caller has gone
+-- NotBuilt        INVALID_ARGUMENT: the request asks for a network that this server does without
+-- NetworkFailed   INTERNAL: a network failed; the server's log says why
"""

from __future__ import annotations


class PipelineError(Exception):
    """The root. Its text goes to the caller as it is: one sentence, no path, no class name, no stack."""


class BadInput(PipelineError):
    """The input cannot be served, and would not be on another try."""


class Overloaded(PipelineError):
    """A network's queue is full, its request waited too long, or its process is being restarted."""


class OutOfMemory(PipelineError):
    """The memory of a network's device is out. What a caller gets to see of it begins with "out of memory:"."""


class Cancelled(PipelineError):
    """The caller cancelled, disconnected or ran out of time before the pipeline had finished."""


class NotBuilt(PipelineError):
    """A network that the pipeline can do without is not in the model repository."""


class NetworkFailed(PipelineError):
    """A network returned an error that is nobody's input."""


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


def says_out_of_memory(message: str) -> bool:
    """Whether an engine's error message says that the device's memory is exhausted."""
    return any(words in message.lower() for words in _OUT_OF_MEMORY)
