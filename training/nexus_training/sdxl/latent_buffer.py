"""Training examples as latents on the device: a ring buffer, partly refreshed at every step.

Drawing and encoding a picture costs about as much as a training step on it, so each is used several times, with other
timesteps and noise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from nexus_export.families.lama.generator import Generator
from nexus_export.families.lama.network import correct
from torch import Tensor

from nexus_training.runtime import to_device
from nexus_training.sdxl.photo_crops import SIDE, PhotoCrops
from nexus_training.sdxl.pictures import make_pictures, to_latent_mask
from nexus_training.sdxl.tokenizer import LENGTH, Vocabulary

# Value inside the mask of the picture that the network sees: the middle of the range, as published.
GREY = 0.5

CHUNK = 16


@dataclass(frozen=True)
class Examples:
    """A batch for the denoiser; h and w are an eighth of the pictures' side."""

    target: Tensor  # [n, 4, h, w] scaled latents of the whole picture
    known: Tensor  # [n, 5, h, w] mask and scaled latents of the masked picture
    ids: Tensor  # [2, n, 77]


def mask_out(images: Tensor, masks: Tensor) -> Tensor:
    """The pictures with the mask filled grey."""
    return images * (1 - masks) + GREY * masks


def continue_background(images: Tensor, masks: Tensor, captions: Sequence[str], lama: Generator) -> Tensor:
    """Fill the masks of pictures [n, 3, H, W] whose caption is empty by LaMa, without its grain.

    An empty prompt asks for a continuation of the background. The original pixels would teach a distribution, from
    which a network this small and briefly trained samples clutter; LaMa's fill is a single answer, and quickly learned.
    """
    rows = [row for row, caption in enumerate(captions) if caption == ""]
    if not rows:
        return images
    filled, holes = images.clone(), masks[rows]
    filled[rows] += (correct(lama, images[rows], holes)[0].clamp(0, 1) - images[rows]) * holes
    return filled


class LatentBuffer:
    """Up to `size` examples of pictures of `side` pixels; `refresh` adds or replaces some, `sample` draws from all.

    `encode` maps pictures [n, 3, side, side] in 0..1 to scaled latents [n, 4, side / 8, side / 8].
    """

    def __init__(
        self,
        photos: PhotoCrops,
        encode: Callable[[Tensor], Tensor],
        vocabulary: Vocabulary,
        lama: Generator,
        *,
        side: int,
        size: int,
        fresh: float,
        seed: tuple[int, ...],
    ) -> None:
        """On average `fresh` examples are made a step; pictures depend on `seed` and their number alone."""
        self.photos, self.encode, self.vocabulary, self.lama = photos, encode, vocabulary, lama
        self.side, self.size, self.fresh, self.seed = side, size, fresh, seed
        device = photos.device
        self.values = torch.empty((size, 9, side // 8, side // 8), dtype=torch.bfloat16, device=device)
        self.ids = torch.empty((2, size, LENGTH), dtype=torch.int32, device=device)
        self.made = 0
        self._due = 0.0

    def fill(self, count: int) -> None:
        """Make `count` examples."""
        for _ in range(count // CHUNK):
            self._make()

    def refresh(self) -> None:
        """Make the examples that are due at this step."""
        self._due += self.fresh
        while self._due >= CHUNK:
            self._due -= CHUNK
            self._make()

    def sample(self, count: int, generator: torch.Generator) -> Examples:
        """Draw `count` random examples."""
        filled = min(self.made, self.size)
        rows = torch.randint(filled, (count,), generator=generator, device=self.values.device)
        values = self.values[rows].float()
        return Examples(values[:, :4], values[:, 4:], self.ids[:, rows])

    @torch.no_grad()
    def _make(self) -> None:
        number, count = self.made // CHUNK, CHUNK
        pictures = make_pictures(self.photos, count, *self.seed, number)
        shrink = SIDE // self.side
        masks = F.max_pool2d(pictures.masks, shrink)
        images = continue_background(
            F.avg_pool2d(pictures.images, shrink), masks, pictures.captions, self.lama
        )
        both = torch.cat([images, mask_out(images, masks)]).contiguous(memory_format=torch.channels_last)
        with torch.autocast(both.device.type, torch.bfloat16):
            whole, known = self.encode(both).float().chunk(2)
        rows = (torch.arange(count, device=both.device) + self.made) % self.size
        self.values[rows] = torch.cat([whole, to_latent_mask(masks), known], 1).to(self.values.dtype)
        self.ids[:, rows] = to_device(self.vocabulary.encode(pictures.captions), both.device)
        self.made += count
