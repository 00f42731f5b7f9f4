"""The two transports over gRPC, blocking and asyncio. Each call is one try; `Caller` retries.

They use tritonclient's generated stub rather than its InferenceServerClient, which allows one stream at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from ._tensors import Tensors
from ._wire import CHANNEL_OPTIONS, STREAM_METADATA, check_address, from_stream, from_wire, to_wire, translate
from .exceptions import Cancelled


class _Closable:
    """Maps gRPC's errors to a `NexusError`; those during and after a close to `Cancelled`."""

    closed = False

    @contextmanager
    def _translating(self, timeout: float) -> Iterator[None]:
        try:
            if self.closed:
                raise Cancelled("the client is closed")
            yield
        except grpc.RpcError as error:
            raise translate(error, timeout) from None
        except (ValueError, asyncio.CancelledError):
            # gRPC raises ValueError (blocking) or CancelledError (asyncio) on a closed channel. While the client is
            # open, a task's own cancellation passes.
            if self.closed:
                raise Cancelled("the client was closed during the call") from None
            raise


class GrpcTransport(_Closable):
    """Blocking. Connects at the first call."""

    def __init__(self, url: str) -> None:
        self._channel = grpc.insecure_channel(check_address(url), CHANNEL_OPTIONS)
        self._triton = GRPCInferenceServiceStub(self._channel)

    def infer(self, model: str, inputs: Tensors, timeout: float) -> Tensors:
        """Run one inference; return every output."""
        with self._translating(timeout):
            return from_wire(self._triton.ModelInfer(to_wire(model, inputs), timeout=timeout))

    def stream(self, model: str, inputs: Tensors, timeout: float) -> Generator[Tensors, None, None]:
        """Run one inference that answers several times; yield the outputs of each answer."""
        with self._translating(timeout):
            requests = iter([to_wire(model, inputs)])
            call = self._triton.ModelStreamInfer(requests, timeout=timeout, metadata=STREAM_METADATA)
            try:
                for response in call:
                    yield from_stream(response)
            finally:
                call.cancel()  # has no effect on a call that has ended

    def live(self, timeout: float) -> bool:
        """Whether the server answers."""
        with self._translating(timeout):
            return bool(self._triton.ServerLive(service_pb2.ServerLiveRequest(), timeout=timeout).live)

    def ready(self, timeout: float) -> bool:
        """Whether the server takes requests."""
        with self._translating(timeout):
            return bool(self._triton.ServerReady(service_pb2.ServerReadyRequest(), timeout=timeout).ready)

    def model_ready(self, model: str, timeout: float) -> bool:
        """Whether the server can run this model now."""
        with self._translating(timeout):
            request = service_pb2.ModelReadyRequest(name=model)
            return bool(self._triton.ModelReady(request, timeout=timeout).ready)

    def version(self, timeout: float) -> str:
        """The server's version."""
        with self._translating(timeout):
            request = service_pb2.ServerMetadataRequest()
            return str(self._triton.ServerMetadata(request, timeout=timeout).version)

    def close(self) -> None:
        """Drop the connection."""
        self.closed = True
        self._channel.close()


class AsyncGrpcTransport(_Closable):
    """Asyncio. Belongs to the event loop of its first call."""

    def __init__(self, url: str) -> None:
        self._url = check_address(url)
        self._channel: Any = None

    @property
    def _triton(self) -> Any:
        # Created inside the running loop: an aio channel created outside binds to the loop of the policy.
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self._url, CHANNEL_OPTIONS)
            self._stub = GRPCInferenceServiceStub(self._channel)
        return self._stub

    async def infer(self, model: str, inputs: Tensors, timeout: float) -> Tensors:
        """Run one inference; return every output."""
        with self._translating(timeout):
            return from_wire(await self._triton.ModelInfer(to_wire(model, inputs), timeout=timeout))

    async def stream(self, model: str, inputs: Tensors, timeout: float) -> AsyncGenerator[Tensors, None]:
        """Run one inference that answers several times; yield the outputs of each answer."""
        with self._translating(timeout):
            requests = iter([to_wire(model, inputs)])
            call = self._triton.ModelStreamInfer(requests, timeout=timeout, metadata=STREAM_METADATA)
            try:
                async for response in call:
                    yield from_stream(response)
            finally:
                call.cancel()  # has no effect on a call that has ended

    async def live(self, timeout: float) -> bool:
        """Whether the server answers."""
        with self._translating(timeout):
            request = service_pb2.ServerLiveRequest()
            return bool((await self._triton.ServerLive(request, timeout=timeout)).live)

    async def ready(self, timeout: float) -> bool:
        """Whether the server takes requests."""
        with self._translating(timeout):
            request = service_pb2.ServerReadyRequest()
            return bool((await self._triton.ServerReady(request, timeout=timeout)).ready)

    async def model_ready(self, model: str, timeout: float) -> bool:
        """Whether the server can run this model now."""
        with self._translating(timeout):
            request = service_pb2.ModelReadyRequest(name=model)
            return bool((await self._triton.ModelReady(request, timeout=timeout)).ready)

    async def version(self, timeout: float) -> str:
        """The server's version."""
        with self._translating(timeout):
            request = service_pb2.ServerMetadataRequest()
            return str((await self._triton.ServerMetadata(request, timeout=timeout)).version)

    async def close(self) -> None:
        """Drop the connection."""
        self.closed = True
        if self._channel is not None:
            await self._channel.close()
