"""What both gRPC transports share: channel options, tensors on the wire, status codes as our exceptions."""

from __future__ import annotations

from typing import Any

from tritonclient.grpc import InferInput, InferResult
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from ._requests import Tensors
from .exceptions import (
    Cancelled,
    DeadlineExceeded,
    InvalidInput,
    NexusError,
    NotDeployed,
    ServerError,
    Unavailable,
)

INT32_MAX = 2**31 - 1

CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", INT32_MAX),
    ("grpc.max_receive_message_length", INT32_MAX),
    # gRPC's own defaults wait up to two minutes between attempts to connect; a restarted server is found
    # within a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Despite its name this is how long one attempt may take.
    ("grpc.min_reconnect_backoff_ms", 2000),
]


def check_address(url: str) -> str:
    """Return `url` if it names a gRPC port; raise `InvalidInput` if it is a web address or lacks the port."""
    if ":" not in url or url.startswith(("http:", "https:")):
        raise InvalidInput(
            f"the server's address is HOST:PORT of its gRPC port, such as localhost:8001, not {url!r}"
        )
    return url


def to_wire(inputs: Tensors) -> list[Any]:
    """Return the arrays as tritonclient's inputs; each datatype follows from the array's dtype."""
    tensors = []
    for name, array in inputs.items():
        tensor = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    return tensors


def from_wire(result: InferResult) -> Tensors:
    """Return every output of an answer."""
    return {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}


def translate(error: InferenceServerException, timeout: float) -> NexusError:
    """Return the exception of this package that says what `error` says."""
    code = str(error.status()).rpartition(".")[2]
    message = " ".join(str(error.message()).split())
    if code == "INVALID_ARGUMENT":
        return InvalidInput(message)
    if code == "NOT_FOUND":
        return NotDeployed(message)
    if code == "DEADLINE_EXCEEDED":
        return DeadlineExceeded(f"no answer within {timeout:.3g} s", timeout=timeout)
    if code == "CANCELLED":
        return Cancelled("the call was cancelled")
    if code == "UNAVAILABLE":
        return Unavailable("connection refused" if "onnection refused" in message else message)
    if "stub process" in message.lower() and "not healthy" in message.lower():
        # The model's Python process was killed. Triton says INTERNAL; a supervisor restarts it shortly.
        return Unavailable("the model's process is being restarted")
    return ServerError(f"the server failed: {message} ({code})")
