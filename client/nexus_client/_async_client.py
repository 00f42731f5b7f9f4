"""The asyncio client: the twin of `Client`, method for method."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import TypeVar

from PIL import Image

from . import _generative_fill, _requests
from ._async_photo import AsyncPhoto
from ._caller import DEFAULT_FILL_TIMEOUT, DEFAULT_RETRIES, Caller
from ._grpc import AsyncGrpcTransport
from ._images import ImageInput, MaskInput, encode_image
from ._requests import Box, Labels, Points
from ._results import FillProgress, GenerativeFill, Segmentation, SmartRemoval, Status
from ._retry import RetryPolicy
from ._runtime import AsyncioRuntime
from ._transport import AsyncTransport

T = TypeVar("T")


class AsyncClient:
    """`Client` for asyncio: the same constructor, methods and errors, awaited.

    Usage:

        async with AsyncClient("localhost:8001") as client:
            removal = await client.smart_remove("street.jpg", points=[(412, 260)])

    Files and PNG are read and written in threads, so the event loop stays free. Cancelling the task cancels
    the call on the server. A client belongs to the event loop of its first call, and may be shared by the
    tasks of that loop.
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
            lambda: _requests.segment(image, points, labels, box, min_area, model), timeout
        )

    async def cleanup(
        self, image: ImageInput, mask: MaskInput, *, dilate: int = 3, timeout: float | None = None
    ) -> Image.Image:
        """See `Client.cleanup`."""
        return await self._run(lambda: _requests.cleanup(image, mask, dilate), timeout)

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
            lambda: _requests.smart_remove(image, points, labels, box, rough_mask, dilate, model), timeout
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
        return await self._run(lambda: _requests.remove_background(image, background, model), timeout)

    async def generative_fill(
        self,
        image: ImageInput,
        mask: MaskInput,
        prompt: str,
        *,
        negative_prompt: str | None = None,
        steps: int | None = None,
        guidance_scale: float | None = None,
        strength: float | None = None,
        seed: int | None = None,
        scheduler: str | None = None,
        timeout: float | None = None,
    ) -> GenerativeFill:
        """See `Client.generative_fill`."""
        return await self._caller.call(
            lambda: _generative_fill.fill(
                image,
                mask,
                prompt,
                negative_prompt=negative_prompt,
                steps=steps,
                guidance_scale=guidance_scale,
                strength=strength,
                seed=seed,
                scheduler=scheduler,
            ),
            timeout,
            DEFAULT_FILL_TIMEOUT,
        )

    def generative_fill_stream(
        self,
        image: ImageInput,
        mask: MaskInput,
        prompt: str,
        *,
        negative_prompt: str | None = None,
        steps: int | None = None,
        guidance_scale: float | None = None,
        strength: float | None = None,
        seed: int | None = None,
        scheduler: str | None = None,
        preview_every: int = 0,
        timeout: float | None = None,
    ) -> AsyncGenerator[FillProgress | GenerativeFill, None]:
        """See `Client.generative_fill_stream`; an asynchronous generator, so use it as `async for event in ...`.

        Cancelling the task that iterates, or `aclose()`, cancels the fill on the server.
        """
        return self._caller.stream(
            lambda: _generative_fill.fill_stream(
                image,
                mask,
                prompt,
                preview_every,
                negative_prompt=negative_prompt,
                steps=steps,
                guidance_scale=guidance_scale,
                strength=strength,
                seed=seed,
                scheduler=scheduler,
            ),
            timeout,
            DEFAULT_FILL_TIMEOUT,
        )

    async def open(self, image: ImageInput) -> AsyncPhoto:
        """See `Client.open`."""
        encoded = await asyncio.to_thread(encode_image, image)
        return AsyncPhoto(self, encoded)

    async def status(self, *, timeout: float | None = None) -> Status:
        """See `Client.status`."""
        return await self._caller.status(timeout)

    async def close(self) -> None:
        """See `Client.close`."""
        await self._caller.transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, build: Callable[[], _requests.Request[T]], timeout: float | None) -> T:
        return await self._caller.call(build, timeout)
