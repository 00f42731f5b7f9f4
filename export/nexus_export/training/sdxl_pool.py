"""Training examples as latents on the device: a ring that a part is renewed of at every step.

Drawing and encoding a picture costs about as much as a training step on it; each is used a few times, with
another timestep and other noise.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nexus_export.training.sdxl_data import make_pictures, to_latent_mask
from nexus_export.training.sdxl_device import sent
from nexus_export.training.sdxl_networks import LATENT_SIDE
from nexus_export.training.sdxl_photos import PhotoCrops
from nexus_export.training.sdxl_tokenizer import LENGTH, Vocabulary

GREY = 0.5
"""What the picture that the network sees shows inside the mask: the middle of the range, as published."""


PREFILL_SHARE = 1 / 16
"""Part of the pool that is made before the first step."""


@dataclass(frozen=True)
class Examples:
    """A batch for the denoiser."""

    target: Tensor  # [n, 4, 32, 32] scaled latents of the whole picture
    known: Tensor  # [n, 5, 32, 32] mask and scaled latents of the picture without what it hides
    ids: Tensor  # [2, n, 77]


def mask_out(images: Tensor, masks: Tensor) -> Tensor:
    """The pictures with grey where the mask is 1."""
    return images * (1 - masks) + GREY * masks


class Pool:
    """``size`` examples; ``renew`` replaces the ``fresh`` oldest, ``draw`` takes random ones.

    ``encode`` turns pictures [n, 3, 256, 256] in 0..1 into scaled latents [n, 4, 32, 32].
    """

    def __init__(
        self,
        photos: PhotoCrops,
        encode: Callable[[Tensor], Tensor],
        vocabulary: Vocabulary,
        *,
        size: int,
        fresh: int,
        seed: int,
    ) -> None:
        self.photos, self.encode, self.vocabulary = photos, encode, vocabulary
        self.size, self.fresh, self.seed = size, fresh, seed
        device = photos.device
        half = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.values = torch.empty((size, 9, LATENT_SIDE, LATENT_SIDE), dtype=half, device=device)
        self.ids = torch.empty((2, size, LENGTH), dtype=torch.int32, device=device)
        self.made = 0

    def fill(self, step: int) -> None:
        """Make what the pool holds before ``step``, whether or not the run began here."""
        renewals = self._before(step)
        for number in range(max(0, renewals - -(-self.size // self.fresh)), renewals):
            self._make(number)

    def renew(self, step: int) -> None:
        """Replace the oldest examples by those of ``step``."""
        self._make(self._before(step))

    def draw(self, count: int, generator: torch.Generator) -> Examples:
        """``count`` random examples out of those made so far."""
        filled = min(self.made, self.size)
        rows = torch.randint(filled, (count,), generator=generator, device=self.values.device)
        values = self.values[rows].float()
        return Examples(values[:, :4], values[:, 4:], self.ids[:, rows])

    def _before(self, step: int) -> int:
        """Renewals before that of ``step``: each step has one, and the first of all some to begin with."""
        return max(1, round(self.size * PREFILL_SHARE / self.fresh)) + step

    @torch.no_grad()
    def _make(self, number: int) -> None:
        pictures = make_pictures(self.photos, self.fresh, self.seed, number)
        hidden = mask_out(pictures.images, pictures.masks)
        both = torch.cat([pictures.images, hidden]).contiguous(memory_format=torch.channels_last)
        with torch.autocast(both.device.type, torch.bfloat16, enabled=both.is_cuda):
            whole, known = self.encode(both).float().chunk(2)
        rows = (torch.arange(self.fresh, device=both.device) + number * self.fresh) % self.size
        self.values[rows] = torch.cat([whole, to_latent_mask(pictures.masks), known], 1).to(self.values.dtype)
        self.ids[:, rows] = sent(self.vocabulary.encode(pictures.captions), both.device)
        self.made = (number + 1) * self.fresh
