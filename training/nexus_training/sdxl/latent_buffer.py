"""Training examples as latents on the device: a ring that a part is renewed of at every step.

Drawing and encoding a picture costs about as much as a training step on it; each is used several times, with
another timestep and other noise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from nexus_export.lama.generator import Generator
from nexus_export.lama.network import correct
from torch import Tensor

from nexus_training.runtime import sent
from nexus_training.sdxl.photo_crops import SIDE, PhotoCrops
from nexus_training.sdxl.pictures import make_pictures, to_latent_mask
from nexus_training.sdxl.tokenizer import LENGTH, Vocabulary

# What the picture that the network sees shows inside the mask: the middle of the range, as published.
GREY = 0.5

MADE_AT_ONCE = 16


@dataclass(frozen=True)
class Examples:
    """A batch for the denoiser, h and w being an eighth of the pictures' side."""

    target: Tensor  # [n, 4, h, w] scaled latents of the whole picture
    known: Tensor  # [n, 5, h, w] mask and scaled latents of the picture without what it hides
    ids: Tensor  # [2, n, 77]


def mask_out(images: Tensor, masks: Tensor) -> Tensor:
    """The pictures with grey where the mask is 1."""
    return images * (1 - masks) + GREY * masks


def continued(images: Tensor, masks: Tensor, captions: Sequence[str], lama: Generator) -> Tensor:
    """The pictures [n, 3, H, W]; where the caption is empty, with the mask filled by LaMa, without its grain.

    An empty prompt asks to go on with the background. The lost pixels would teach that as a distribution, of which a
    network this small and this shortly trained draws clutter; LaMa's fill is one answer, and soon learnt.
    """
    rows = [row for row, caption in enumerate(captions) if caption == ""]
    if not rows:
        return images
    filled, holes = images.clone(), masks[rows]
    filled[rows] += (correct(lama, images[rows], holes)[0].clamp(0, 1) - images[rows]) * holes
    return filled


class Pool:
    """Up to `size` examples of pictures of `side` pixels; `renew` adds or replaces some, `draw` takes any.

    `encode` turns pictures [n, 3, side, side] in 0..1 into scaled latents [n, 4, side / 8, side / 8].
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
        """`fresh` examples are made a step on average; pictures follow from `seed` and their number alone."""
        self.photos, self.encode, self.vocabulary, self.lama = photos, encode, vocabulary, lama
        self.side, self.size, self.fresh, self.seed = side, size, fresh, seed
        device = photos.device
        self.values = torch.empty((size, 9, side // 8, side // 8), dtype=torch.bfloat16, device=device)
        self.ids = torch.empty((2, size, LENGTH), dtype=torch.int32, device=device)
        self.made = 0
        self._owed = 0.0

    def fill(self, count: int) -> None:
        """Make `count` examples."""
        for _ in range(count // MADE_AT_ONCE):
            self._make()

    def renew(self) -> None:
        """Make what is due after one more step."""
        self._owed += self.fresh
        while self._owed >= MADE_AT_ONCE:
            self._owed -= MADE_AT_ONCE
            self._make()

    def draw(self, count: int, generator: torch.Generator) -> Examples:
        """`count` random examples out of those there are."""
        filled = min(self.made, self.size)
        rows = torch.randint(filled, (count,), generator=generator, device=self.values.device)
        values = self.values[rows].float()
        return Examples(values[:, :4], values[:, 4:], self.ids[:, rows])

    @torch.no_grad()
    def _make(self) -> None:
        number, count = self.made // MADE_AT_ONCE, MADE_AT_ONCE
        pictures = make_pictures(self.photos, count, *self.seed, number)
        shrink = SIDE // self.side
        masks = F.max_pool2d(pictures.masks, shrink)
        images = continued(F.avg_pool2d(pictures.images, shrink), masks, pictures.captions, self.lama)
        both = torch.cat([images, mask_out(images, masks)]).contiguous(memory_format=torch.channels_last)
        with torch.autocast(both.device.type, torch.bfloat16):
            whole, known = self.encode(both).float().chunk(2)
        rows = (torch.arange(count, device=both.device) + self.made) % self.size
        self.values[rows] = torch.cat([whole, to_latent_mask(masks), known], 1).to(self.values.dtype)
        self.ids[:, rows] = sent(self.vocabulary.encode(pictures.captions), both.device)
        self.made += count
