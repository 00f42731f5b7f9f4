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
from nexus_export.training.sdxl_networks import LATENT_SIDE, latents
from nexus_export.training.sdxl_photos import PhotoCrops
from nexus_export.training.sdxl_tokenizer import LENGTH, Vocabulary

GREY = 0.5
"""What the picture that the network sees shows inside the mask: the middle of the range, as published."""


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
    """``size`` examples; ``renew`` replaces the oldest, ``draw`` takes random ones."""

    def __init__(
        self,
        photos: PhotoCrops,
        vae: torch.nn.Module,
        scale: float,
        vocabulary: Vocabulary,
        size: int,
        seed: int,
    ) -> None:
        self.photos, self.scale, self.vocabulary, self.size, self.seed = photos, scale, vocabulary, size, seed
        self.vae = vae
        self.encode: Callable[[Tensor], Tensor] = lambda images: latents(self.vae, images)
        device = photos.device
        half = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.values = torch.empty((size, 9, LATENT_SIDE, LATENT_SIDE), dtype=half, device=device)
        self.ids = torch.empty((2, size, LENGTH), dtype=torch.int32, device=device)
        self.made = 0

    @torch.no_grad()
    def renew(self, count: int, step: int) -> None:
        """Replace the ``count`` oldest examples; a function of the seed and ``step``."""
        pictures = make_pictures(self.photos, count, self.seed, step)
        hidden = mask_out(pictures.images, pictures.masks)
        both = torch.cat([pictures.images, hidden]).contiguous(memory_format=torch.channels_last)
        with torch.autocast(both.device.type, torch.bfloat16, enabled=both.is_cuda):
            whole, known = self.encode(both).float().mul(self.scale).chunk(2)
        rows = (torch.arange(count, device=both.device) + self.made) % self.size
        self.values[rows] = torch.cat([whole, to_latent_mask(pictures.masks), known], 1).to(self.values.dtype)
        ids = sent(self.vocabulary.encode(pictures.captions), both.device)
        self.ids[:, rows] = ids
        self.made += count

    def draw(self, count: int, generator: torch.Generator) -> Examples:
        """``count`` random examples out of those made so far."""
        filled = min(self.made, self.size)
        rows = torch.randint(filled, (count,), generator=generator, device=self.values.device)
        values = self.values[rows].float()
        return Examples(values[:, :4], values[:, 4:], self.ids[:, rows])
