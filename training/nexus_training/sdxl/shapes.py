"""Shapes as fields on the picture plane: signed distance, surface normal and texture coordinates.

Every function takes u, v [n, H, W] (v points down; the shape fits the unit circle), random numbers
[n, RANDOMS, 1, 1] in 0..1, and returns a Surface. Parallel projection, seen a little from above.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

RANDOMS = 4


class Surface(NamedTuple):
    """The inputs of shading, each [n, H, W]; distances in the shape's units, negative inside."""

    distance: Tensor
    normal: tuple[Tensor, Tensor, Tensor]  # x right, y down, z towards the viewer
    texture: tuple[Tensor, Tensor]
    detail: Tensor  # factor on the colour: grooves, creases
    accent: Tensor  # 1 where a second colour shows: a flower's centre, a door's knob


def _root(value: Tensor) -> Tensor:
    return value.clamp_min(1e-4).sqrt()


def _plain(
    distance: Tensor, normal: tuple[Tensor, Tensor, Tensor], texture: tuple[Tensor, Tensor]
) -> Surface:
    return Surface(distance, normal, texture, torch.ones_like(distance), torch.zeros_like(distance))


def ball(u: Tensor, v: Tensor, _random: Tensor) -> Surface:
    radius = torch.hypot(u, v)
    z = _root(1 - radius**2)
    return _plain(radius - 1, (u, v, z), (torch.atan2(u, z), torch.atan2(v, z)))


def _box(u: Tensor, v: Tensor, half: tuple[float, float, float], yaw: Tensor, pitch: Tensor) -> Surface:
    cy, sy, cp, sp = yaw.cos(), yaw.sin(), pitch.cos(), pitch.sin()
    zero = torch.zeros_like(cy)
    axes = ((cy, -sy * sp, -sy * cp), (zero, cp, -sp), (sy, cy * sp, cy * cp))
    # The outline of a projected box: one pair of parallel edges along each axis.
    distance = torch.full_like(u, -9.0)
    for x, y, _ in axes:
        length = torch.hypot(x, y).clamp_min(1e-4)
        nx, ny = -y / length, x / length
        support = sum(h * (a * nx + b * ny).abs() for h, (a, b, _) in zip(half, axes, strict=True))
        distance = torch.maximum(distance, (u * nx + v * ny).abs() - support)
    # The first of the three visible faces that a ray from the viewer hits.
    depths, signs = [], []
    for h, (x, y, z) in zip(half, axes, strict=True):
        sign = torch.where(z < 0, -1.0, 1.0)
        depths.append((sign * h - (u * x + v * y)) / torch.where(z.abs() < 1e-3, sign * 1e-3, z))
        signs.append(sign)
    depth, face = torch.stack(depths).min(0)
    along = [u * x + v * y + depth * z for x, y, z in axes]
    normal = tuple(sum((face == i) * (signs[i] * axes[i][k]) for i in range(3)) for k in range(3))
    first = torch.where(face == 0, along[2], along[0])
    second = torch.where(face == 1, along[2], along[1])
    return _plain(distance, normal, (first * 1.6, second * 1.6))  # type: ignore[arg-type]


def cube(u: Tensor, v: Tensor, random: Tensor) -> Surface:
    return _box(
        u,
        v,
        (0.58, 0.58, 0.58),
        math.radians(15) + random[:, 0] * math.radians(60),
        0.3 + 0.35 * random[:, 1],
    )


def door(u: Tensor, v: Tensor, random: Tensor) -> Surface:
    surface = _box(u, v, (0.47, 0.86, 0.05), (random[:, 0] - 0.5) * 0.7, 0.03 + 0.1 * random[:, 1])
    s, t = surface.texture[0] / 1.6, surface.texture[1] / 1.6
    panels = torch.minimum(_rectangle(s, t + 0.42, 0.3, 0.27), _rectangle(s, t - 0.36, 0.3, 0.36))
    groove = 1 - 0.45 * (1 - (panels.abs() / 0.035)).clamp(0, 1)
    knob = (1 - (torch.hypot(s - 0.38, t - 0.05) - 0.045) / 0.015).clamp(0, 1)
    return surface._replace(detail=groove, accent=knob)


def _rectangle(s: Tensor, t: Tensor, width: float, height: float) -> Tensor:
    return torch.maximum(s.abs() - width, t.abs() - height)


def cylinder(u: Tensor, v: Tensor, random: Tensor) -> Surface:
    radius, half, tilt = 0.5 + 0.14 * random[:, 0], 0.6, 0.25 + 0.2 * random[:, 1]
    across = (u / radius).clamp(-1, 1)
    bulge = tilt * radius * _root(1 - across**2)
    distance = torch.maximum(u.abs() - radius, v.abs() - half - bulge)
    top = (u / radius) ** 2 + ((v + half) / (tilt * radius)) ** 2 < 1
    front, upright = _root(1 - across**2), _root(1 - tilt**2)
    normal = (
        torch.where(top, 0.0, across),
        torch.where(top, -upright, front * tilt),
        torch.where(top, tilt, front * upright),
    )
    s = torch.where(top, u * 1.5, across.asin())
    return _plain(distance, normal, (s, torch.where(top, (v + half) / tilt, v * 1.6)))


def cone(u: Tensor, v: Tensor, random: Tensor) -> Surface:
    radius, apex, base, tilt = 0.62 + 0.1 * random[:, 0], -0.92, 0.58, 0.28 + 0.15 * random[:, 1]
    width = radius * ((v.clamp(apex, base) - apex) / (base - apex)).clamp_min(1e-3)
    slope = (base - apex) / torch.hypot(radius, torch.full_like(radius, base - apex))
    bottom = base + tilt * radius * _root(1 - (u / radius).clamp(-1, 1) ** 2)
    distance = torch.maximum((u.abs() - width) * slope, v - bottom)
    distance = torch.maximum(distance, apex - v)
    across = (u / width).clamp(-1, 1)
    front = _root(1 - across**2)
    normal = (across * slope, -0.25 * torch.ones_like(u), front * slope)
    return _plain(distance, normal, (across.asin(), v * 1.6))


def _polygon(u: Tensor, v: Tensor, corners: Sequence[tuple[float, float]]) -> Tensor:
    """Signed distance to a polygon: the nearest edge, and the parity of edges crossed on the way out."""
    nearest = torch.full_like(u, 99.0)
    inside = torch.zeros_like(u, dtype=torch.bool)
    for (ax, ay), (bx, by) in zip(corners, [*corners[1:], corners[0]], strict=True):
        ex, ey = bx - ax, by - ay
        along = (((u - ax) * ex + (v - ay) * ey) / (ex * ex + ey * ey)).clamp(0, 1)
        nearest = torch.minimum(nearest, (u - ax - along * ex) ** 2 + (v - ay - along * ey) ** 2)
        if ey != 0:
            inside ^= ((v >= ay) != (v >= by)) & (u < ax + (v - ay) * (ex / ey))
    return nearest.sqrt() * torch.where(inside, -1.0, 1.0)


def _pillow(u: Tensor, v: Tensor, distance: Tensor, width: float) -> Surface:
    """Inflate a flat outline: rounded over `width` from its edge, flat inside."""
    height = _root(1 - (1 + distance / width).clamp(0, 1) ** 2) * width
    # u and v are a rotated regular grid: rotate differences along its axes back into the shape's frame.
    dy, dx = torch.gradient(height, dim=(-2, -1))
    ux, uy = (u[:, :1, 1:2] - u[:, :1, :1]), (u[:, 1:2, :1] - u[:, :1, :1])
    unit = ux**2 + uy**2
    gu, gv = (dx * ux + dy * uy) / unit, (dy * ux - dx * uy) / unit
    length = (gu**2 + gv**2 + 1).sqrt()
    return _plain(distance, (-gu / length, -gv / length, 1 / length), (u * 1.6, v * 1.6))


_STAR = tuple(
    (r * math.sin(k * math.pi / 5), -r * math.cos(k * math.pi / 5)) for k, r in enumerate((1.0, 0.46) * 5)
)
_HEART = tuple(
    (
        0.95 * math.sin(t) ** 3,
        -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t) + 2.5) / 16.5,
    )
    for t in (2 * math.pi * (k + 0.5) / 40 for k in range(40))
)


def star(u: Tensor, v: Tensor, _random: Tensor) -> Surface:
    return _pillow(u, v, _polygon(u, v, _STAR), 0.3)


def heart(u: Tensor, v: Tensor, _random: Tensor) -> Surface:
    return _pillow(u, v, _polygon(u, v, _HEART), 0.45)


def ring(u: Tensor, v: Tensor, random: Tensor) -> Surface:
    middle, thick, squash = 0.7, 0.2 + 0.09 * random[:, 0], 0.6 + 0.4 * random[:, 1]
    flat = v / squash
    radius = torch.hypot(u, flat).clamp_min(1e-3)
    across = ((radius - middle) / thick).clamp(-1, 1)
    normal = (across * u / radius, across * flat / radius, _root(1 - across**2))
    distance = ((radius - middle).abs() - thick) * squash
    return _plain(distance, normal, (torch.atan2(flat, u) * middle * 2, across))


def flower(u: Tensor, v: Tensor, random: Tensor) -> Surface:
    petals = 5 + (random[:, 0] * 3).floor()
    radius, angle = torch.hypot(u, v), torch.atan2(v, u)
    wave = (petals * angle / 2).cos().abs()
    edge = 0.5 + 0.48 * wave.sqrt()
    surface = _pillow(u, v, (radius - edge) * 0.75, 0.3)
    middle = (1 - (radius - 0.24) / 0.04).clamp(0, 1)
    crease = 0.72 + 0.28 * (wave * 3).clamp(0, 1)
    return surface._replace(detail=torch.maximum(crease, middle), accent=middle)


DRAW: dict[str, Callable[[Tensor, Tensor, Tensor], Surface]] = {
    "ball": ball,
    "cube": cube,
    "cylinder": cylinder,
    "cone": cone,
    "star": star,
    "ring": ring,
    "heart": heart,
    "door": door,
    "flower": flower,
}

# Shapes that may be rotated; the others stand on the ground and cast their shadow there.
FLAT = ("star", "ring", "heart", "flower")
