"""Everything a run trains on, made once and kept on the training device: crops, textures and masks.

Cutting crops takes far longer than training on them does on a GPU. From a bank a batch is one indexing, and
flips, shading and the pairing with masks make every use of a crop a new sample.
"""

import multiprocessing
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nexus_training.lama.masks import random_mask
from nexus_training.lama.textures import random_texture
from nexus_training.photos import Photo, detailed_crop

# Of the bank's crops; the rest is photos.
TEXTURE_SHARE = 0.1

# Masks turn up in eight positions and over any crop; so fewer are plenty.
CROPS_A_MASK = 5

# Of samples shown upside down, and of samples with rows and columns exchanged: textures and edges have any direction,
# but skies are mostly above.
TURNED_SHARE = 0.2

# Colours of a sample are multiplied by up to 1 plus or minus this, each by its own factor.
GAIN = 0.2


class _Cutter:
    """Cuts one crop or draws one mask by its number; the same in every process."""

    def __init__(self, photos: Sequence[Photo], seed: int, size: int) -> None:
        self.photos, self.seed, self.size = photos, seed, size
        areas = np.array([photo.shape[0] * photo.shape[1] for photo in photos], np.float64)
        # A large photo holds more to see than a small texture, and so is cut more often.
        self.shares = areas / areas.sum()

    def crop(self, index: int) -> NDArray[np.uint8]:
        rng = np.random.default_rng((self.seed, 0, index))
        if rng.random() < TEXTURE_SHARE:
            return random_texture(rng, self.size)
        return detailed_crop(rng, self.photos[rng.choice(len(self.photos), p=self.shares)], self.size)

    def mask(self, index: int) -> NDArray[np.uint8]:
        return random_mask(np.random.default_rng((self.seed, 1, index)), self.size)[..., None]


# Set before the workers fork, so that the photos are not sent to them.
_cutter: _Cutter


def _crop(index: int) -> NDArray[np.uint8]:
    return _cutter.crop(index)


def _mask(index: int) -> NDArray[np.uint8]:
    return _cutter.mask(index)


class Bank:
    """Crops UINT8 [N, S, S, 3] and masks UINT8 [M, S, S, 1] on one device; a function of the seed alone."""

    def __init__(
        self, photos: Sequence[Photo], seed: int, crops: int, size: int, device: torch.device
    ) -> None:
        global _cutter
        self.seed, self.device = seed, device
        _cutter = _Cutter(photos, seed, size)
        # A process a core cuts; OpenCV's own threads would only get in each other's way.
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        with multiprocessing.get_context("fork").Pool() as pool:
            cut = pool.map(_crop, range(crops), chunksize=16)
            drawn = pool.map(_mask, range(-(-crops // CROPS_A_MASK)), chunksize=16)
        cv2.setNumThreads(threads)
        self.crops = torch.from_numpy(np.stack(cut)).to(device)
        self.masks = torch.from_numpy(np.stack(drawn)).to(device)

    def batch(self, step: int, batch: int) -> tuple[Tensor, Tensor]:
        """Images FP32 [batch, 3, S, S] in [0, 1] and masks FP32 [batch, 1, S, S], 1 in the hole.

        A function of seed and step alone: a resumed run sees exactly what an unbroken one would have seen.
        """
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + step)

        def flags(share: float) -> Tensor:
            return (torch.rand(batch, 1, 1, 1, generator=draw) < share).to(self.device)

        def turned(x: Tensor, upright: float) -> Tensor:
            x = torch.where(flags(0.5), x.flip(3), x)
            x = torch.where(flags(upright), x.flip(2), x)
            return torch.where(flags(upright), x.transpose(2, 3), x)

        chosen = torch.randint(len(self.crops), (batch,), generator=draw).to(self.device)
        holes = torch.randint(len(self.masks), (batch,), generator=draw).to(self.device)
        images = turned(self.crops[chosen].permute(0, 3, 1, 2).float() / 255.0, TURNED_SHARE)
        masks = turned(self.masks[holes].permute(0, 3, 1, 2).float(), 0.5)
        gain = 1.0 + GAIN * (2.0 * torch.rand(batch, 3, 1, 1, generator=draw) - 1.0)
        shaded = (images * gain.to(self.device)).clamp(0.0, 1.0)
        return shaded.contiguous(memory_format=torch.channels_last), masks
