"""Where to paint: masks around an object or anywhere, as fields that are negative inside.

Fields are in pixels [n, SIDE, SIDE], so that a mask is ``field < 0`` and a soft edge a ramp of it.
"""

import numpy as np
import torch
from torch import Tensor

from nexus_export.training.sdxl_device import sent
from nexus_export.training.sdxl_photos import SIDE


def _grid(device: torch.device) -> tuple[Tensor, Tensor]:
    axis = torch.arange(SIDE, device=device, dtype=torch.float32)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return y[None], x[None]


def region(rng: np.random.Generator, centres: Tensor, radii: Tensor, slack: tuple[float, float]) -> Tensor:
    """A box or a blob about each circle: ``centres`` [n, 2] as x, y and ``radii`` [n] in pixels.

    Every region contains its circle enlarged by at least ``slack[0]`` and at most about ``slack[1]``.
    """
    count, device = len(radii), radii.device
    numbers = rng.random((count, 12)).astype(np.float32)
    n = sent(numbers, device)[:, :, None, None]
    y, x = _grid(device)
    low, high = slack
    extent = radii[:, None, None] * (low + (high - low) * n[:, 0])
    # The circle stays inside when its region is moved by less than what the region has to spare.
    spare = extent - radii[:, None, None] * low
    dx = x - centres[:, 0, None, None] - (2 * n[:, 1] - 1) * spare
    dy = y - centres[:, 1, None, None] - (2 * n[:, 2] - 1) * spare
    box = torch.maximum(dx.abs() - extent * (1 + 0.2 * n[:, 3]), dy.abs() - extent * (1 + 0.2 * n[:, 4]))
    angle = torch.atan2(dy, dx)
    waves = sum((k * angle + 6.28 * n[:, 4 + k]).cos() / k for k in range(2, 6))
    reach = extent * (1.1 + 0.09 * waves) + 0.4 * spare
    blob = torch.hypot(dx, dy) - reach
    return torch.where(n[:, 10] < 0.45, box, blob)


def strokes(rng: np.random.Generator, count: int, device: torch.device) -> Tensor:
    """A few thick joined strokes anywhere."""
    y, x = _grid(device)
    field = torch.full((count, SIDE, SIDE), 1e3, device=device)
    n = sent(rng.random((count, 4, 3)), device)[..., None, None]
    for start, end in ((0, 1), (1, 2), (2, 3)):
        ax, ay = n[:, start, 0] * SIDE, n[:, start, 1] * SIDE
        ex, ey = n[:, end, 0] * SIDE - ax, n[:, end, 1] * SIDE - ay
        along = (((x - ax) * ex + (y - ay) * ey) / (ex**2 + ey**2 + 1)).clamp(0, 1)
        distance = torch.hypot(x - ax - along * ex, y - ay - along * ey)
        field = torch.minimum(field, distance - (6 + 16 * n[:, 0, 2]))
    return field


def anywhere(rng: np.random.Generator, count: int, device: torch.device) -> Tensor:
    """Boxes, blobs and strokes of 1 to about 40 % of the picture."""
    centres = sent(rng.uniform(40, SIDE - 40, (count, 2)), device)
    radii = sent(rng.uniform(20, 80, count), device)
    field = region(rng, centres, radii, (1.0, 1.4))
    chosen = sent(rng.random(count) < 0.3, device)[:, None, None]
    return torch.where(chosen, strokes(rng, count, device), field)
