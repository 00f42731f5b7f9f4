"""Training pictures: photos and scenes with objects composed into them, masks and captions.

Masks are computed as fields [n, SIDE, SIDE] in pixels, negative inside: a mask is `field < 0`, a soft edge is a ramp.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nexus_training.runtime import to_device
from nexus_training.sdxl.captions import SCENES, SceneSpec, sample_spec
from nexus_training.sdxl.photo_crops import SIDE, PhotoCrops
from nexus_training.sdxl.render import Objects, render
from nexus_training.sdxl.scenes import paint_scene


@dataclass(frozen=True)
class Pictures:
    """A batch: the target pictures, where to paint, and the prompts."""

    images: Tensor  # [n, 3, 256, 256], 0..1
    masks: Tensor  # [n, 1, 256, 256], 1 where to paint
    captions: list[str]


def make_pictures(photos: PhotoCrops, count: int, *seed: int) -> Pictures:
    """Make a batch that depends on the numbers of the seed alone."""
    rng = np.random.default_rng(seed)
    generator = torch.Generator(photos.device).manual_seed(int(rng.integers(2**62)))
    specs = [sample_spec(rng) for _ in range(count)]
    # Sorted by kind; the order within a batch does not matter.
    specs.sort(key=lambda spec: (spec.shape < 0, spec.scene))
    objects = [spec for spec in specs if spec.shape >= 0]
    images = photos.crops(rng, count)
    fields = [random_regions(rng, count - len(objects), photos.device)]
    _paint_scenes(rng, generator, specs, images, fields[0])
    if objects:
        drawn, field = compose(rng, objects, images[: len(objects)])
        images = torch.cat([drawn, images[len(objects) :]])
        fields.insert(0, field)
    masks = (torch.cat(fields) < 0).float()[:, None]
    return Pictures(images, masks, [spec.caption for spec in specs])


def _paint_scenes(
    rng: np.random.Generator,
    generator: torch.Generator,
    specs: list[SceneSpec],
    images: Tensor,
    fields: Tensor,
) -> None:
    """Replace photos by scenes: whole pictures, or only the region if the caption asks for the scene itself."""
    bare = len(specs) - len(fields)
    for scene, name in enumerate(SCENES):
        rows = [row for row, spec in enumerate(specs) if spec.scene == scene]
        if not rows:
            continue
        index = to_device(rows, images.device)
        painted = paint_scene(name, len(rows), generator)
        for number, row in enumerate(rows):
            if specs[row].shape < 0 and rng.random() < 0.6:
                soft = (-fields[row - bare] / 10).clamp(0, 1)
                painted[number] = images[row] + (painted[number] - images[row]) * soft
        images[index] = painted


def compose(rng: np.random.Generator, specs: list[SceneSpec], backgrounds: Tensor) -> tuple[Tensor, Tensor]:
    """Compose the objects of `specs` into `backgrounds` [n, 3, 256, 256]; return pictures and mask fields."""
    objects = render(rng, specs, backgrounds.mean((1, 2, 3)))
    field = _mask_fields(rng, objects)
    # Nothing outside the mask may change, so shadows fade out towards its edge.
    shadow = objects.shadow * (-field / 8).clamp(0, 1)
    cover = (0.5 - objects.distance).clamp(0, 1)[:, None]
    pictures = backgrounds * (1 - shadow[:, None])
    return pictures + (objects.colour - pictures) * cover, field


def _mask_fields(rng: np.random.Generator, objects: Objects) -> Tensor:
    """The dilated outline of each object, or a box or blob around it."""
    count = len(objects.radii)
    around = region_around(rng, objects.centres, objects.radii, (1.06, 1.55))
    widened = to_device(rng.uniform(5, 26, (count, 1, 1)), around.device)
    outline = torch.minimum(objects.distance - widened, 20 * (0.12 - objects.shadow) + 2)
    chosen = to_device(rng.random(count) < 0.25, around.device)[:, None, None]
    return torch.minimum(torch.where(chosen, outline, around), objects.distance - 3)


def to_latent_mask(masks: Tensor, factor: int = 8) -> Tensor:
    """Downscale to [n, 1, H / 8, W / 8] by nearest pixel, like the published inpainting pipelines."""
    return F.interpolate(masks, scale_factor=1 / factor, mode="nearest")


def _grid(device: torch.device) -> tuple[Tensor, Tensor]:
    axis = torch.arange(SIDE, device=device, dtype=torch.float32)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return y[None], x[None]


def region_around(
    rng: np.random.Generator, centres: Tensor, radii: Tensor, slack: tuple[float, float]
) -> Tensor:
    """A box or a blob around each circle: `centres` [n, 2] as x, y and `radii` [n] in pixels.

    Every region contains its circle scaled by a factor of at least `slack[0]` and at most about `slack[1]`.
    """
    count, device = len(radii), radii.device
    numbers = rng.random((count, 12)).astype(np.float32)
    n = to_device(numbers, device)[:, :, None, None]
    y, x = _grid(device)
    low, high = slack
    extent = radii[:, None, None] * (low + (high - low) * n[:, 0])
    # A region may be shifted by its slack and still contains the circle.
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
    """A few thick connected strokes at random."""
    y, x = _grid(device)
    field = torch.full((count, SIDE, SIDE), 1e3, device=device)
    n = to_device(rng.random((count, 4, 3)), device)[..., None, None]
    for start, end in ((0, 1), (1, 2), (2, 3)):
        ax, ay = n[:, start, 0] * SIDE, n[:, start, 1] * SIDE
        ex, ey = n[:, end, 0] * SIDE - ax, n[:, end, 1] * SIDE - ay
        along = (((x - ax) * ex + (y - ay) * ey) / (ex**2 + ey**2 + 1)).clamp(0, 1)
        distance = torch.hypot(x - ax - along * ex, y - ay - along * ey)
        field = torch.minimum(field, distance - (6 + 16 * n[:, 0, 2]))
    return field


def random_regions(rng: np.random.Generator, count: int, device: torch.device) -> Tensor:
    """Random boxes, blobs and strokes of 1 to about 40 % of the picture."""
    centres = to_device(rng.uniform(40, SIDE - 40, (count, 2)), device)
    radii = to_device(rng.uniform(20, 80, count), device)
    field = region_around(rng, centres, radii, (1.0, 1.4))
    chosen = to_device(rng.random(count) < 0.3, device)[:, None, None]
    return torch.where(chosen, strokes(rng, count, device), field)
