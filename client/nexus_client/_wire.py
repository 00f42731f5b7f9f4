"""Shared by both gRPC transports: channel options, tensors on the wire, exceptions for status codes."""

from __future__ import annotations

import grpc
import numpy as np
from tritonclient.grpc import InferResult, service_pb2
from tritonclient.utils import np_to_triton_dtype, serialize_byte_tensor

from ._tensors import INT32_MAX, Tensors
from .exceptions import (
    Cancelled,
    DeadlineExceeded,
    ImageNotHeld,
    InvalidInput,
    NexusError,
    NotDeployed,
    OutOfMemory,
    ServerError,
    Unavailable,
)

CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", INT32_MAX),
    ("grpc.max_receive_message_length", INT32_MAX),
    # gRPC's own defaults wait up to two minutes between attempts to connect; with these a restarted server is found
    # within a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Despite its name, the time limit of one attempt.
    ("grpc.min_reconnect_backoff_ms", 2000),
]

# Asks Triton to end a stream with the error's own status code; else it sends the bare sentence in an answer.
STREAM_METADATA = (("triton_grpc_error", "true"),)

# The server's message begins so if UNAVAILABLE means that the device has no memory left.
OUT_OF_MEMORY = "out of memory"

# The server's message begins so if NOT_FOUND means an image sent by reference and not a model.
NOT_HELD = "image sha256:"


def check_address(url: str) -> str:
    """Return `url`. Raises `InvalidInput` if it is a web address or lacks the port."""
    if ":" not in url or url.startswith(("http:", "https:")):
        raise InvalidInput(
            f"the server's address is HOST:PORT of its gRPC port, such as localhost:8001, not {url!r}"
        )
    return url


def to_wire(model: str, inputs: Tensors) -> service_pb2.ModelInferRequest:
    """Return the arrays as a request; each datatype follows from the array's dtype."""
    request = service_pb2.ModelInferRequest(model_name=model)
    for name, array in inputs.items():
        request.inputs.add(name=name, datatype=np_to_triton_dtype(array.dtype), shape=array.shape)
        # One content for each tensor, the empty ones too, or the server would match contents to the wrong tensors.
        is_bytes = array.dtype == np.object_ and array.size
        request.raw_input_contents.append(
            serialize_byte_tensor(array).item() if is_bytes else array.tobytes()
        )
    return request


def from_wire(response: service_pb2.ModelInferResponse) -> Tensors:
    """Return every output of an answer."""
    result = InferResult(response)
    return {output.name: result.as_numpy(output.name) for output in response.outputs}


def from_stream(response: service_pb2.ModelStreamInferResponse) -> Tensors:
    """Return every output of one answer of a stream. Raises the error that Triton may send in an answer's place.

    Despite `STREAM_METADATA` Triton sends its own refusals, made before the model sees the request, without a code
    (seen with 2.51).
    """
    message = response.error_message
    if message.startswith("Request for unknown model"):
        raise NotDeployed(message)
    if message:
        raise ServerError(f"the server failed: {message}")
    return from_wire(response.infer_response)


def translate(error: grpc.RpcError, timeout: float) -> NexusError:
    """Map a gRPC error to a `NexusError`."""
    code: str = error.code().name
    message = " ".join((error.details() or "").split())
    if code == "INVALID_ARGUMENT":
        return InvalidInput(message)
    if code == "NOT_FOUND" and message.startswith(NOT_HELD):
        return ImageNotHeld(message)
    if code == "NOT_FOUND":
        return NotDeployed(message)
    if code == "DEADLINE_EXCEEDED":
        return DeadlineExceeded(f"no answer within {timeout:.3g} s", timeout=timeout)
    if code == "CANCELLED":
        return Cancelled("the call was cancelled")
    if code == "UNAVAILABLE" and message.startswith(OUT_OF_MEMORY):
        return OutOfMemory(message)
    if code == "UNAVAILABLE":
        return Unavailable("connection refused" if "onnection refused" in message else message)
    if "stub process" in message.lower() and "not healthy" in message.lower():
        # The model's Python process was killed. Triton answers INTERNAL; a supervisor restarts it shortly.
        return Unavailable("the model's process is being restarted")
    return ServerError(f"the server failed: {message} ({code})")
