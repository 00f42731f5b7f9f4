"""The asyncio client: the twin of `Client`, method for method."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, TypeVar

from PIL import Image

from . import _operations
from ._arguments import Box, Labels, Points
from ._caller import DEFAULT_FILL_TIMEOUT, DEFAULT_RETRIES, DEFAULT_TIMEOUT, Caller
from ._deprecated import Photo
from ._grpc import AsyncGrpcTransport
from ._images import ImageInput, MaskInput, encode_image
from ._operations import FillSettings, Request, takes_fill_settings
from ._results import FillProgress, GenerativeFill, Segmentation, SmartRemoval, Status
from ._retry import RetryPolicy
from ._runtime import AsyncioRuntime
from ._transport import AsyncTransport

if TYPE_CHECKING:
    from typing_extensions import Unpack  # typing has it from Python 3.11 on

T = TypeVar("T")


class AsyncClient:
    """`Client` for asyncio: the same constructor, methods and errors, awaited.

    Usage:

        async with AsyncClient("localhost:8001") as client:
            removal = await client.smart_remove("street.jpg", points=[(412, 260)])

    Files and PNG are read and written in threads, so the event loop stays free. Cancelling the task cancels the call
    on the server. A client belongs to the event loop of its first call; the tasks of that loop may share it.
    """

    def __init__(
        self,
        url: str = "localhost:8001",
        *,
        timeout: float | None = None,
        retries: RetryPolicy | None = DEFAULT_RETRIES,
        transport: AsyncTransport | None = None,
    ) -> None:
        self._caller = Caller(url, transport or AsyncGrpcTransport(url), AsyncioRuntime(), timeout, retries)

    async def segment(
        self,
        image: ImageInput,
        points: Points | None = None,
        labels: Labels | None = None,
        box: Box | None = None,
        *,
        min_area: int | None = None,
        model: str | None = None,
        timeout: float | None = None,
    ) -> Segmentation:
        """See `Client.segment`."""
        return await self._run(
            lambda: _operations.segment(image, points, labels, box, min_area, model), timeout
        )

    async def cleanup(
        self, image: ImageInput, mask: MaskInput, *, dilate: int = 3, timeout: float | None = None
    ) -> Image.Image:
        """See `Client.cleanup`."""
        return await self._run(lambda: _operations.cleanup(image, mask, dilate), timeout)

    async def smart_remove(
        self,
        image: ImageInput,
        points: Points | None = None,
        labels: Labels | None = None,
        box: Box | None = None,
        rough_mask: MaskInput | None = None,
        *,
        dilate: int = 3,
        model: str | None = None,
        timeout: float | None = None,
    ) -> SmartRemoval:
        """See `Client.smart_remove`."""
        return await self._run(
            lambda: _operations.smart_remove(image, points, labels, box, rough_mask, dilate, model), timeout
        )

    async def remove_background(
        self,
        image: ImageInput,
        *,
        background: str = "white",
        model: str | None = None,
        timeout: float | None = None,
    ) -> Image.Image:
        """See `Client.remove_background`."""
        return await self._run(lambda: _operations.remove_background(image, background, model), timeout)

    @takes_fill_settings
    async def generative_fill(
        self,
        image: ImageInput,
        mask: MaskInput,
        prompt: str,
        *,
        timeout: float | None = None,
        **settings: Unpack[FillSettings],
    ) -> GenerativeFill:
        """See `Client.generative_fill`."""
        return await self._run(
            lambda: _operations.fill(image, mask, prompt, settings), timeout, DEFAULT_FILL_TIMEOUT
        )

    @takes_fill_settings
    def generative_fill_stream(
        self,
        image: ImageInput,
        mask: MaskInput,
        prompt: str,
        *,
        preview_every: int = 0,
        timeout: float | None = None,
        **settings: Unpack[FillSettings],
    ) -> AsyncGenerator[FillProgress | GenerativeFill, None]:
        """See `Client.generative_fill_stream`; an asynchronous generator, for `async for event in ...`.

        Cancelling the task that iterates, or `aclose()`, cancels the fill on the server.
        """
        return self._caller.stream(
            lambda: _operations.fill_stream(image, mask, prompt, preview_every, settings),
            timeout,
            DEFAULT_FILL_TIMEOUT,
        )

    async def open(self, image: ImageInput) -> Photo:
        """See `Client.open`."""
        return Photo(self, await asyncio.to_thread(encode_image, image))

    async def status(self, *, timeout: float | None = None) -> Status:
        """See `Client.status`."""
        return await self._caller.status(timeout)

    async def close(self) -> None:
        """See `Client.close`."""
        await self._caller.transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(
        self, build: Callable[[], Request[T]], timeout: float | None, default: float = DEFAULT_TIMEOUT
    ) -> T:
        # A function rather than a request: building one reads files and writes PNG, which the caller does
        # in a thread, within the call's budget.
        return await self._caller.call(build, timeout, default)
