"""A stand-in for Triton: a real gRPC server on loopback."""

# ruff: noqa: ARG002 - a stand-in keeps the original's parameters, used or not
from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import numpy as np
from nexus_client import PIPELINES, Tensors
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import (
    deserialize_bytes_tensor,
    np_to_triton_dtype,
    serialize_byte_tensor,
    triton_to_np_dtype,
)

from tests.client.support.fakes import answer, fill_answers


def contents(request: Any) -> dict[str, Any]:
    """The arrays of a request."""
    arrays = {}
    for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
        if tensor.datatype == "BYTES":
            array = deserialize_bytes_tensor(raw)
        else:
            array = np.frombuffer(raw, triton_to_np_dtype(tensor.datatype))
        arrays[tensor.name] = array.reshape(list(tensor.shape))
    return arrays


def response(model: str, outputs: Tensors) -> Any:
    """The arrays as an answer."""
    message = service_pb2.ModelInferResponse(model_name=model)
    for name, array in outputs.items():
        message.outputs.add(name=name, datatype=np_to_triton_dtype(array.dtype), shape=array.shape)
        raw = serialize_byte_tensor(array).item() if array.dtype == np.object_ else array.tobytes()
        message.raw_output_contents.append(raw)
    return message


def _end_of(context: Any) -> threading.Event:
    """Set when the call is over, ended by either side."""
    gone = threading.Event()
    if not context.add_callback(gone.set):  # over already
        gone.set()
    return gone


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """A real gRPC server on 127.0.0.1 with the faults of a real Triton.

    `faults`: codes and sentences that end the next calls before their first answer. `refusals`: sentences that a
    stream sends in an answer's place. `break_after`: a stream gives so many answers, then ends with this fault.
    `delay_seconds`: how long an answer takes. `stopped`: for each stream that was cancelled, how
    many answers it had given.
    """

    def __init__(self) -> None:
        self.faults: list[tuple[grpc.StatusCode, str]] = []
        self.requests: list[Any] = []
        self.metadata: list[dict[str, str]] = []
        self.refusals: list[str] = []
        self.break_after: tuple[int, tuple[grpc.StatusCode, str]] | None = None
        self.stopped: queue.Queue[int] = queue.Queue()
        self.is_ready = True
        self.models = set(PIPELINES)
        self.delay_seconds = 0.0
        self.port = 0
        self._server: grpc.Server | None = None

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen on the port of the last start, or on a free one the first time."""
        self._server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        """Break every connection at once, as a killed process does."""
        assert self._server is not None
        self._server.stop(grace=0).wait()

    def ModelInfer(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        if self.faults:
            context.abort(*self.faults.pop(0))
        gone = _end_of(context)
        gone.wait(self.delay_seconds)
        image = contents(request)["image"].item()
        return response(request.model_name, answer(request.model_name, image))

    def ModelStreamInfer(self, requests: Any, context: Any) -> Iterator[Any]:
        gone = _end_of(context)
        for request in requests:
            self.requests.append(request)
            self.metadata.append(dict(context.invocation_metadata()))
            if self.faults:
                context.abort(*self.faults.pop(0))
            if self.refusals:
                yield service_pb2.ModelStreamInferResponse(error_message=self.refusals.pop(0))
                return
            given = 0
            try:
                for outputs in fill_answers(contents(request)):
                    if gone.wait(self.delay_seconds):
                        self.stopped.put(given)
                        return
                    if self.break_after is not None and given == self.break_after[0]:
                        context.abort(*self.break_after[1])
                    answered = response(request.model_name, outputs)
                    yield service_pb2.ModelStreamInferResponse(infer_response=answered)
                    given += 1
            except GeneratorExit:  # gRPC drops, and does not resume, a generator that is cancelled at a yield
                self.stopped.put(given)
                raise

    def ServerLive(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerLiveResponse(live=True)

    def ServerReady(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerReadyResponse(ready=self.is_ready)

    def ModelReady(self, request: Any, context: Any) -> Any:
        return service_pb2.ModelReadyResponse(ready=request.name in self.models)

    def ServerMetadata(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerMetadataResponse(name="triton", version="2.51.0")
