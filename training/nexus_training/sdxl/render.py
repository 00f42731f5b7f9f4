"""Renders objects with one light, soft shadows and six materials; in batches, on the device."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nexus_training.runtime import to_device
from nexus_training.sdxl.captions import COLOURS, MATERIALS, SHAPES, SceneSpec
from nexus_training.sdxl.photo_crops import SIDE
from nexus_training.sdxl.shapes import DRAW, FLAT, RANDOMS, Surface

# Radius of an object's bounding circle, in pixels.
MIN_RADIUS, MAX_RADIUS = 30.0, 96.0


@dataclass(frozen=True)
class Objects:
    """Rendered objects, to be composed into pictures; the first axis is the object's."""

    colour: Tensor  # [n, 3, 256, 256], shaded, 0..1
    distance: Tensor  # [n, 256, 256], pixels, negative inside
    shadow: Tensor  # [n, 256, 256], 0..1
    centres: Tensor  # [n, 2], x and y in pixels
    radii: Tensor  # [n], pixels


def render(rng: np.random.Generator, specs: list[SceneSpec], light: Tensor) -> Objects:
    """Render the object of each spec; `light` [n] is the brightness of its background, 0..1."""
    device = light.device
    count = len(specs)
    radius = np.array([MIN_RADIUS + (MAX_RADIUS - MIN_RADIUS) * spec.size for spec in specs])
    margin = np.minimum(radius + 10, SIDE / 2)
    centre = margin[:, None] + rng.random((count, 2)) * (SIDE - 2 * margin)[:, None]
    names = [list(SHAPES)[spec.shape] for spec in specs]
    turn = np.array([rng.normal(0, 0.25) if name in FLAT else rng.normal(0, 0.03) for name in names])
    numbers = np.concatenate(
        [centre, radius[:, None], turn[:, None], rng.random((count, RANDOMS + 8))], axis=1
    ).astype(np.float32)
    p = to_device(numbers, device)[:, :, None, None]
    axis = torch.arange(SIDE, device=device, dtype=torch.float32)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    dx, dy = (x - p[:, 0]) / p[:, 2], (y - p[:, 1]) / p[:, 2]
    cos, sin = p[:, 3].cos(), p[:, 3].sin()
    u, v = dx * cos + dy * sin, dy * cos - dx * sin
    surface = _surfaces(names, u, v, p[:, 4 : 4 + RANDOMS])
    extra = p[:, 4 + RANDOMS :]
    sun = _sun(extra, cos, sin)
    base = to_device([list(COLOURS.values())[spec.colour] for spec in specs], device)
    colour = _shade(surface, base[:, :, None, None] / 255, specs, sun, extra)
    colour *= (0.78 + 0.4 * light)[:, None, None, None].clamp(0.7, 1.08)
    distance = surface.distance * p[:, 2]
    flat = to_device([name in FLAT for name in names], device)[:, None, None]
    ground = torch.exp(-((dx - 0.18 * extra[:, 0] + 0.09) ** 2 + ((dy - 0.86) / 0.24) ** 2) * 1.6)
    halo = (1 - distance / (0.22 * p[:, 2])).clamp(0, 1) ** 2
    shadow = torch.where(flat, 0.35 * halo, 0.6 * ground.clamp(0, 1))
    return Objects(colour.clamp(0, 1), distance, shadow, p[:, :2, 0, 0], p[:, 2, 0, 0])


def _surfaces(names: list[str], u: Tensor, v: Tensor, random: Tensor) -> Surface:
    """The surface of each object; objects of one shape are computed together."""
    parts: list[Surface] = []
    order: list[int] = []
    for name in dict.fromkeys(names):
        rows = [row for row, other in enumerate(names) if other == name]
        index = to_device(rows, u.device)
        parts.append(DRAW[name](u[index], v[index], random[index]))
        order += rows
    back = to_device(np.argsort(order), u.device)

    def together(values: list[Tensor]) -> Tensor:
        return torch.cat(values)[back]

    return Surface(
        together([part.distance for part in parts]),
        tuple(together([part.normal[k].expand_as(part.distance) for part in parts]) for k in range(3)),  # type: ignore[arg-type]
        tuple(together([part.texture[k] for part in parts]) for k in range(2)),  # type: ignore[arg-type]
        together([part.detail for part in parts]),
        together([part.accent for part in parts]),
    )


def _sun(extra: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Direction to the light, above and in front of the picture, in the object's rotated frame."""
    x, y, z = 1.3 * extra[:, 0] - 0.65, -0.4 - 0.5 * extra[:, 1], 0.75
    length = (x**2 + y**2 + z**2).sqrt()
    return (x * cos + y * sin) / length, (y * cos - x * sin) / length, z / length


def _shade(
    surface: Surface, base: Tensor, specs: list[SceneSpec], sun: tuple[Tensor, Tensor, Tensor], extra: Tensor
) -> Tensor:
    material = to_device([spec.material for spec in specs], base.device)[:, None, None]
    shiny, matte = material == MATERIALS.index("shiny"), material == MATERIALS.index("matte")
    s, t = surface.texture
    s, t = s + extra[:, 2], t + extra[:, 3]
    # Second colour of stripes and dots: white, or dark on a light object.
    luminance = base.mean(1, keepdim=True)
    second = torch.where(luminance > 0.7, 0.3 * base, torch.full_like(base, 0.93))
    slant = extra[:, 4] * 1.5
    stripes = (((s * slant.cos() + t * slant.sin()) * 9).sin() * 4 + 0.5 - 1.2).clamp(0, 1)
    ds, dt = (s * 2.2) % 1.0 - 0.5, (t * 2.2) % 1.0 - 0.5
    dots = ((0.27 - torch.hypot(ds, dt)) * 12).clamp(0, 1)
    pattern = torch.where(material == MATERIALS.index("striped"), stripes, 0.0)
    pattern = torch.where(material == MATERIALS.index("dotted"), dots, pattern)[:, None]
    grain = 0.86 + 0.14 * ((s + 0.12 * (t * 2.3 + 6 * extra[:, 5]).sin()) * 26 + (s * 7).sin()).sin()
    grain = torch.where(material == MATERIALS.index("wooden"), grain, 1.0)
    colour = (base + (second - base) * pattern) * (surface.detail * grain)[:, None]
    gold = to_device([0.93, 0.72, 0.2], base.device)[None, :, None, None]
    # Darker in a yellow flower, where a yellow centre would be invisible.
    gold = torch.where((base[:, :1] > 0.8) & (base[:, 1:2] > 0.7) & (base[:, 2:] < 0.4), 0.4 * gold, gold)
    colour = colour + (gold - colour) * surface.accent[:, None]
    nx, ny, nz = surface.normal
    facing = (nx * sun[0] + ny * sun[1] + nz * sun[2]).clamp_min(0)
    ambient = 0.4 - 0.08 * ny
    # Specular reflection towards the viewer (Phong).
    mirrored = (2 * facing * nz - sun[2]).clamp(0, 1)
    gloss = torch.where(shiny, 0.85 * mirrored**36, torch.where(matte, 0.0, 0.18 * mirrored**10))
    sheen = torch.where(shiny, 0.3 * (1 - nz.clamp(0, 1)) ** 2, 0.0)
    lit = colour * (ambient + 0.68 * facing)[:, None]
    return lit + (gloss + sheen)[:, None]
