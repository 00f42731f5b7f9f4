"""One image for several calls, blocking."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from PIL import Image

from ._images import MaskInput
from ._requests import Box, Labels, Points
from ._results import FillProgress, GenerativeFill, Segmentation, SmartRemoval

if TYPE_CHECKING:
    from ._client import Client


class Photo:
    """One image, read or encoded once, for several calls.

    Usage:

        photo = client.open("cat.jpg")
        photo.segment(points=[(120, 80)])
        photo.segment(points=[(120, 80), (300, 90)], labels=[1, 0])

    The server keeps what it computed of an image under the image's content, so the second click costs a
    fraction of the first. The methods are those of `Client` without the image.
    """

    def __init__(self, client: Client, encoded: bytes) -> None:
        self._client = client
        self.encoded = encoded

    def segment(
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
        return self._client.segment(
            self.encoded, points, labels, box, min_area=min_area, model=model, timeout=timeout
        )

    def cleanup(self, mask: MaskInput, *, dilate: int = 3, timeout: float | None = None) -> Image.Image:
        """See `Client.cleanup`."""
        return self._client.cleanup(self.encoded, mask, dilate=dilate, timeout=timeout)

    def smart_remove(
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
        return self._client.smart_remove(
            self.encoded, points, labels, box, rough_mask, dilate=dilate, model=model, timeout=timeout
        )

    def remove_background(
        self, *, background: str = "white", model: str | None = None, timeout: float | None = None
    ) -> Image.Image:
        """See `Client.remove_background`."""
        return self._client.remove_background(
            self.encoded, background=background, model=model, timeout=timeout
        )

    def generative_fill(
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
        return self._client.generative_fill(
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
    ) -> Generator[FillProgress | GenerativeFill, None, None]:
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
