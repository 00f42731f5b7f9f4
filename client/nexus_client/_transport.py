"""The interface between the client and the wire. Knows nothing of operations or of gRPC.

A transport raises the exceptions of this package and no others. It makes one try per call and never retries. It raises
`NotDeployed` for NOT_FOUND and `Unavailable` for every passing fault; `Caller` interprets them. Timeouts: seconds.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Protocol

from ._tensors import Tensors


class Transport(Protocol):
    """The blocking transport; methods may be called from several threads at once."""

    def infer(self, model: str, inputs: Tensors, timeout: float) -> Tensors:
        """Run one inference; return every output."""

    def stream(self, model: str, inputs: Tensors, timeout: float) -> Generator[Tensors, None, None]:
        """Run one inference that answers several times; yield the outputs of each answer.

        `timeout` is for all of it. Closing the generator cancels the inference on the server.
        """

    def live(self, timeout: float) -> bool:
        """Whether the server answers."""

    def ready(self, timeout: float) -> bool:
        """Whether the server takes requests; False while it starts or stops."""

    def model_ready(self, model: str, timeout: float) -> bool:
        """Whether the server can run this model now."""

    def version(self, timeout: float) -> str:
        """The server's version."""

    def close(self) -> None:
        """Drop the connection; calls in flight end with `Cancelled`, as do later ones."""


class AsyncTransport(Protocol):
    """The asyncio transport: the same methods, awaited."""

    async def infer(self, model: str, inputs: Tensors, timeout: float) -> Tensors:
        """Run one inference; return every output."""

    def stream(self, model: str, inputs: Tensors, timeout: float) -> AsyncGenerator[Tensors, None]:
        """Run one inference that answers several times; yield the outputs of each answer.

        `timeout` is for all of it. Closing the generator cancels the inference on the server.
        """

    async def live(self, timeout: float) -> bool:
        """Whether the server answers."""

    async def ready(self, timeout: float) -> bool:
        """Whether the server takes requests; False while it starts or stops."""

    async def model_ready(self, model: str, timeout: float) -> bool:
        """Whether the server can run this model now."""

    async def version(self, timeout: float) -> str:
        """The server's version."""

    async def close(self) -> None:
        """Drop the connection; calls in flight end with `Cancelled`, as do later ones."""
