"""Photos kept on the device as bytes, at three scales, and random crops of them computed there."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from nexus_training.photos import Photo
from nexus_training.runtime import to_device

# Side of a crop in pixels: the compact network's native size.
SIDE = 256

# Photos are cut into square tiles of this side.
TILE = 1024


class PhotoCrops:
    """Square tiles of every photo at full, half and quarter scale, in one flat tensor."""

    def __init__(self, photos: Sequence[Photo], device: torch.device) -> None:
        tiles = [tile for photo in photos for tile in _tiles(photo)]
        self.sides = [TILE, TILE // 2, TILE // 4]
        levels = [np.stack([_resize(tile, side) for tile in tiles]) for side in self.sides]
        self.offsets = [0, levels[0].size // 3, (levels[0].size + levels[1].size) // 3]
        self.pixels = torch.from_numpy(np.concatenate([level.reshape(-1, 3) for level in levels])).to(device)
        self.tiles = len(tiles)
        self.device = device

    def crops(self, rng: np.random.Generator, count: int, size: int = SIDE) -> Tensor:
        """Sample [count, 3, size, size] in 0..1: random tile, place, scale (quarter to native), mirroring, colours."""
        tile = rng.integers(self.tiles, size=count)
        shrink = np.exp(rng.uniform(0, np.log(TILE / SIDE), count))
        # The next larger level: upscaled crops would be softer than the photos that are served.
        level = np.clip(np.floor(np.log2(shrink)), 0, 2).astype(int)
        side = np.asarray(self.sides)[level]
        window = np.minimum(size * shrink / TILE * side, side - 1)
        start = rng.random((2, count)) * (side - 1 - window)
        mirror = rng.random(count) < 0.5
        base = np.asarray(self.offsets)[level] + tile * side**2
        numbers = np.stack([start[0], start[1], window, mirror, side]).astype(np.float32)
        y0, x0, span, flip, width = to_device(numbers, self.device)[..., None]
        origin = to_device(base, self.device)[:, None, None]
        steps = torch.linspace(0, 1, size, device=self.device)
        y = y0 + steps * span
        x = x0 + torch.where(flip > 0, 1 - steps, steps) * span
        top, left = y.floor().long(), x.floor().long()
        fy, fx = (y - top)[:, :, None, None], (x - left)[:, None, :, None]
        stride, limit = width.long(), width.long() - 1
        rows = [(row.clamp_max(limit) * stride)[:, :, None] for row in (top, top + 1)]
        columns = [column.clamp_max(limit)[:, None, :] for column in (left, left + 1)]
        corner = [[self.pixels[origin + row + column].float() for column in columns] for row in rows]
        upper, lower = (pair[0] + (pair[1] - pair[0]) * fx for pair in corner)
        crop = (upper + (lower - upper) * fy).permute(0, 3, 1, 2) / 255
        return self._jitter_colours(rng, crop)

    def _jitter_colours(self, rng: np.random.Generator, crop: Tensor) -> Tensor:
        count = len(crop)
        numbers = np.concatenate(
            [
                rng.normal(1.0, 0.07, (count, 3)),
                rng.normal(1.0, 0.12, (count, 2)),
                rng.normal(0, 0.05, (count, 1)),
            ],
            axis=1,
        ).astype(np.float32)
        changes = to_device(numbers, self.device)[:, :, None, None]
        gains, contrast, saturation, shift = changes[:, :3], changes[:, 3:4], changes[:, 4:5], changes[:, 5:]
        grey = crop.mean(1, keepdim=True)
        crop = (grey + (crop - grey) * saturation) * gains
        return ((crop - 0.5) * contrast + 0.5 + shift).clamp(0, 1)


def _resize(tile: Photo, side: int) -> Photo:
    return cv2.resize(tile, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _tiles(photo: Photo) -> list[Photo]:
    """Squares of the shorter side from both ends and the middle of the longer side, scaled to tiles."""
    shortest, longest = min(photo.shape[:2]), max(photo.shape[:2])
    starts = sorted({0, (longest - shortest) // 2, longest - shortest})
    if longest < 1.3 * shortest:
        starts = starts[1:2] if len(starts) > 1 else starts
    tall = photo.shape[0] > photo.shape[1]
    squares = [photo[s : s + shortest] if tall else photo[:, s : s + shortest] for s in starts]
    interpolation = cv2.INTER_AREA if shortest > TILE else cv2.INTER_CUBIC
    return [
        cv2.resize(square, (TILE, TILE), interpolation=interpolation).astype(np.uint8) for square in squares
    ]
