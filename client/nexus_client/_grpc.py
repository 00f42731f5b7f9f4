"""The two transports over tritonclient, blocking and asyncio. One try each; retries are the caller's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tritonclient.grpc
import tritonclient.grpc.aio
from tritonclient.utils import InferenceServerException

from ._requests import Tensors
from ._wire import CHANNEL_OPTIONS, check_address, from_wire, to_wire, translate
from .exceptions import Cancelled


class _Closable:
    """Turns what gRPC raises during and after a close into `Cancelled`, and its other errors into ours."""

    closed = False

    @contextmanager
    def _translating(self, timeout: float) -> Iterator[None]:
        try:
            if self.closed:
                raise Cancelled("the client is closed")
            yield
        except InferenceServerException as error:
            raise translate(error, timeout) from None
        except (ValueError, asyncio.CancelledError):
            # gRPC's ways to say "closed": ValueError (blocking) and CancelledError (asyncio). An open client
            # lets a task's own cancellation pass.
            if self.closed:
                raise Cancelled("the client was closed during the call") from None
            raise


class GrpcTransport(_Closable):
    """Blocking, over `tritonclient.grpc`. Connects at the first call."""

    def __init__(self, url: str) -> None:
        self._triton = tritonclient.grpc.InferenceServerClient(
            check_address(url), channel_args=CHANNEL_OPTIONS
        )

    def infer(self, model: str, inputs: Tensors, timeout: float) -> Tensors:
        """Run one inference; return every output."""
        with self._translating(timeout):
            return from_wire(self._triton.infer(model, to_wire(inputs), client_timeout=timeout))

    def live(self, timeout: float) -> bool:
        """Whether the server answers."""
        with self._translating(timeout):
            return bool(self._triton.is_server_live(client_timeout=timeout))

    def ready(self, timeout: float) -> bool:
        """Whether the server takes requests."""
        with self._translating(timeout):
            return bool(self._triton.is_server_ready(client_timeout=timeout))

    def model_ready(self, model: str, timeout: float) -> bool:
        """Whether the server can run this model now."""
        with self._translating(timeout):
            return bool(self._triton.is_model_ready(model, client_timeout=timeout))

    def version(self, timeout: float) -> str:
        """The server's version."""
        with self._translating(timeout):
            return str(self._triton.get_server_metadata(client_timeout=timeout).version)

    def close(self) -> None:
        """Drop the connection."""
        self.closed = True
        self._triton.close()


class AsyncGrpcTransport(_Closable):
    """Asyncio, over `tritonclient.grpc.aio`. Belongs to the event loop of its first call."""

    def __init__(self, url: str) -> None:
        self._url = check_address(url)
        self._channel: Any = None

    @property
    def _triton(self) -> Any:
        # Made inside the running loop: an aio channel made outside one binds to whatever loop the policy
        # hands out.
        if self._channel is None:
            self._channel = tritonclient.grpc.aio.InferenceServerClient(
                self._url, channel_args=CHANNEL_OPTIONS
            )
        return self._channel

    async def infer(self, model: str, inputs: Tensors, timeout: float) -> Tensors:
        """Run one inference; return every output."""
        with self._translating(timeout):
            return from_wire(await self._triton.infer(model, to_wire(inputs), client_timeout=timeout))

    async def live(self, timeout: float) -> bool:
        """Whether the server answers."""
        with self._translating(timeout):
            return bool(await self._triton.is_server_live(client_timeout=timeout))

    async def ready(self, timeout: float) -> bool:
        """Whether the server takes requests."""
        with self._translating(timeout):
            return bool(await self._triton.is_server_ready(client_timeout=timeout))

    async def model_ready(self, model: str, timeout: float) -> bool:
        """Whether the server can run this model now."""
        with self._translating(timeout):
            return bool(await self._triton.is_model_ready(model, client_timeout=timeout))

    async def version(self, timeout: float) -> str:
        """The server's version."""
        with self._translating(timeout):
            metadata = await self._triton.get_server_metadata(client_timeout=timeout)
            return str(metadata.version)

    async def close(self) -> None:
        """Drop the connection."""
        self.closed = True
        if self._channel is not None:
            await self._channel.close()
