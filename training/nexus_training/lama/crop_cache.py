"""The crops, textures and masks a run trains on, made before its first step and kept on the training device.

On a GPU, cutting a crop takes far longer than a training step on it. A batch is one indexing into the cache; flips,
gains and random pairs of crop and mask make a new sample of every use.
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

# Share of the crops that are drawn textures; the rest is cut from photos.
TEXTURE_SHARE = 0.1

# Fewer masks than crops suffice: each occurs in eight orientations and over any crop.
CROPS_A_MASK = 5

# Share of samples flipped vertically, and of samples transposed: textures and edges have any direction, but skies are
# mostly above.
ROTATED_SHARE = 0.2

# Each colour channel of a sample is multiplied by a random factor in 1 - GAIN to 1 + GAIN.
GAIN = 0.2


class _CropSource:
    """Cuts a crop or draws a mask, a function of the seed and the index alone."""

    def __init__(self, photos: Sequence[Photo], seed: int, size: int) -> None:
        self.photos, self.seed, self.size = photos, seed, size
        areas = np.array([photo.shape[0] * photo.shape[1] for photo in photos], np.float64)
        # Photos are sampled by area: a large one has more to learn from than a small texture.
        self.shares = areas / areas.sum()

    def crop(self, index: int) -> NDArray[np.uint8]:
        rng = np.random.default_rng((self.seed, 0, index))
        if rng.random() < TEXTURE_SHARE:
            return random_texture(rng, self.size)
        return detailed_crop(rng, self.photos[rng.choice(len(self.photos), p=self.shares)], self.size)

    def mask(self, index: int) -> NDArray[np.uint8]:
        return random_mask(np.random.default_rng((self.seed, 1, index)), self.size)[..., None]


# Set before the pool forks, so that the photos are not sent to its processes.
_source: _CropSource


def _crop(index: int) -> NDArray[np.uint8]:
    return _source.crop(index)


def _mask(index: int) -> NDArray[np.uint8]:
    return _source.mask(index)


class CropCache:
    """Crops UINT8 [N, S, S, 3] and masks UINT8 [M, S, S, 1] on one device, reproducible from the seed."""

    def __init__(
        self, photos: Sequence[Photo], seed: int, crops: int, size: int, device: torch.device
    ) -> None:
        global _source
        self.seed, self.device = seed, device
        _source = _CropSource(photos, seed, size)
        # The pool has a process a core; OpenCV's own threads would only compete with it.
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        with multiprocessing.get_context("fork").Pool() as pool:
            cut = pool.map(_crop, range(crops), chunksize=16)
            drawn = pool.map(_mask, range(-(-crops // CROPS_A_MASK)), chunksize=16)
        cv2.setNumThreads(threads)
        self.crops = torch.from_numpy(np.stack(cut)).to(device)
        self.masks = torch.from_numpy(np.stack(drawn)).to(device)

    def batch(self, step: int, batch: int) -> tuple[Tensor, Tensor]:
        """Sample images FP32 [batch, 3, S, S] in [0, 1] and masks FP32 [batch, 1, S, S], 1 in the hole.

        Depends on seed and step alone: a resumed run sees the batches of an uninterrupted one.
        """
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + step)

        def flags(share: float) -> Tensor:
            return (torch.rand(batch, 1, 1, 1, generator=draw) < share).to(self.device)

        def oriented(x: Tensor, share: float) -> Tensor:
            x = torch.where(flags(0.5), x.flip(3), x)
            x = torch.where(flags(share), x.flip(2), x)
            return torch.where(flags(share), x.transpose(2, 3), x)

        chosen = torch.randint(len(self.crops), (batch,), generator=draw).to(self.device)
        holes = torch.randint(len(self.masks), (batch,), generator=draw).to(self.device)
        images = oriented(self.crops[chosen].permute(0, 3, 1, 2).float() / 255.0, ROTATED_SHARE)
        masks = oriented(self.masks[holes].permute(0, 3, 1, 2).float(), 0.5)
        gain = 1.0 + GAIN * (2.0 * torch.rand(batch, 3, 1, 1, generator=draw) - 1.0)
        shaded = (images * gain.to(self.device)).clamp(0.0, 1.0)
        return shaded.contiguous(memory_format=torch.channels_last), masks
