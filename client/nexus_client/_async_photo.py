"""One image for several calls, asyncio."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from PIL import Image

from ._images import MaskInput
from ._requests import Box, Labels, Points
from ._results import FillProgress, GenerativeFill, Segmentation, SmartRemoval

if TYPE_CHECKING:
    from ._async_client import AsyncClient


class AsyncPhoto:
    """One image, read or encoded once, for several calls; see `Photo`.

    Usage:

        photo = await client.open("cat.jpg")
        await photo.segment(points=[(120, 80)])
    """

    def __init__(self, client: AsyncClient, encoded: bytes) -> None:
        self._client = client
        self.encoded = encoded

    async def segment(
        self,
        points: Points | None = None,
        labels: Labels | None = None,
        box: Box | None = None,
        *,
        min_area: int | None = None,
        model: str | None = None,
        timeout: float | None = None,
    ) -> Segmentation:
        """See `Client.segment`."""
        return await self._client.segment(
            self.encoded, points, labels, box, min_area=min_area, model=model, timeout=timeout
        )

    async def cleanup(self, mask: MaskInput, *, dilate: int = 3, timeout: float | None = None) -> Image.Image:
        """See `Client.cleanup`."""
        return await self._client.cleanup(self.encoded, mask, dilate=dilate, timeout=timeout)

    async def smart_remove(
        self,
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
        return await self._client.smart_remove(
            self.encoded, points, labels, box, rough_mask, dilate=dilate, model=model, timeout=timeout
        )

    async def remove_background(
        self, *, background: str = "white", model: str | None = None, timeout: float | None = None
    ) -> Image.Image:
        """See `Client.remove_background`."""
        return await self._client.remove_background(
            self.encoded, background=background, model=model, timeout=timeout
        )

    async def generative_fill(
        self,
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
        return await self._client.generative_fill(
            self.encoded,
            mask,
            prompt,
            negative_prompt=negative_prompt,
            steps=steps,
            guidance_scale=guidance_scale,
            strength=strength,
            seed=seed,
            scheduler=scheduler,
            timeout=timeout,
        )

    def generative_fill_stream(
        self,
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
        """See `Client.generative_fill_stream`."""
        return self._client.generative_fill_stream(
            self.encoded,
            mask,
            prompt,
            negative_prompt=negative_prompt,
            steps=steps,
            guidance_scale=guidance_scale,
            strength=strength,
            seed=seed,
            scheduler=scheduler,
            preview_every=preview_every,
            timeout=timeout,
        )
