"""Scenes without an object, drawn from noise: grass, sand, water, sky, bricks, wood, leaves, stone, snow."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from nexus_training.runtime import to_device
from nexus_training.sdxl.photo_crops import SIDE


class Noise:
    """Random numbers and smooth noise for `count` pictures, from one generator."""

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.count, self.generator, self.device = count, generator, generator.device
        axis = torch.arange(SIDE, device=self.device) / SIDE
        self.y, self.x = (grid[None, None] for grid in torch.meshgrid(axis, axis, indexing="ij"))

    def uniform(self, low: float, high: float, channels: int = 1) -> Tensor:
        """[count, channels, 1, 1]."""
        shape = (self.count, channels, 1, 1)
        return low + (high - low) * torch.rand(shape, generator=self.generator, device=self.device)

    def smooth(self, rows: int, columns: int) -> Tensor:
        """[count, 1, SIDE, SIDE]: bicubic noise with a standard deviation of about 1 and that many bumps across."""
        shape = (self.count, 1, rows + 2, columns + 2)
        coarse = torch.randn(shape, generator=self.generator, device=self.device)
        return F.interpolate(coarse, (SIDE, SIDE), mode="bicubic")

    def fractal(self, rows: int, columns: int, octaves: int, roughness: float = 0.55) -> Tensor:
        """Sum of noises, each twice as fine as the previous one and `roughness` times as strong."""
        total = torch.zeros((self.count, 1, SIDE, SIDE), device=self.device)
        for octave in range(octaves):
            finer = 2**octave
            total += roughness**octave * self.smooth(min(rows * finer, SIDE), min(columns * finer, SIDE))
        return total

    def colour(self, red: float, green: float, blue: float, spread: float = 0.05) -> Tensor:
        """[count, 3, 1, 1]: the colour (0 to 1) with some variation."""
        base = to_device([red, green, blue], self.device)[None, :, None, None]
        return base * self.uniform(1 - 2 * spread, 1 + 2 * spread) + self.uniform(-spread, spread, 3)


def _mix(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    return first + (second - first) * share.clamp(0, 1)


def _grass(noise: Noise) -> Tensor:
    blades = noise.fractal(10, 60, 3, 0.8) * 0.25 + noise.fractal(4, 4, 3) * 0.12 + 0.45
    return _mix(noise.colour(0.10, 0.25, 0.05), noise.colour(0.45, 0.68, 0.2), blades)


def _sand(noise: Noise) -> Tensor:
    ripples = (noise.y * noise.uniform(60, 110) + noise.fractal(3, 3, 2) * 2.5).sin() * noise.uniform(0, 0.18)
    grains = noise.fractal(64, 64, 2, 1.0) * 0.07
    shade = 0.55 + ripples + grains + noise.fractal(2, 2, 3) * 0.1
    return _mix(noise.colour(0.55, 0.42, 0.25), noise.colour(0.93, 0.82, 0.6), shade)


def _water(noise: Noise) -> Tensor:
    waves = noise.fractal(16, 4, 4, 0.7)
    glints = (waves - 1.3).clamp_min(0) * noise.uniform(0.1, 0.5)
    return _mix(noise.colour(0.04, 0.2, 0.38), noise.colour(0.25, 0.55, 0.72), waves * 0.22 + 0.5) + glints


def _sky(noise: Noise) -> Tensor:
    blue = _mix(noise.colour(0.25, 0.48, 0.85), noise.colour(0.68, 0.83, 0.95), noise.y)
    clouds = noise.fractal(2, 2, 5, 0.5) * 0.6 + noise.uniform(-0.4, 0.5)
    shade = noise.fractal(3, 3, 3) * 0.05
    return _mix(blue, noise.colour(0.93, 0.94, 0.96, 0.02) + shade, clouds)


def _bricks(noise: Noise) -> Tensor:
    rows = noise.uniform(6, 14).round()
    y = noise.y * rows + noise.uniform(0, 1)
    row = y.floor()
    x = noise.x * rows * 0.42 + 0.5 * (row % 2) + noise.uniform(0, 1)
    # A random number for each brick, by hashing its position.
    own = ((row * 12.9898 + x.floor() * 78.233).sin() * 43758.5453) % 1.0
    v, u = y % 1.0, x % 1.0
    edge = torch.minimum(torch.minimum(v, 1 - v), torch.minimum(u, 1 - u) * 2.4)
    brick = noise.colour(0.58, 0.25, 0.17) * (0.75 + 0.45 * own) + noise.fractal(24, 24, 3) * 0.035
    mortar = noise.colour(0.72, 0.69, 0.64) + noise.fractal(32, 32, 2) * 0.03
    return _mix(mortar, brick, (edge - 0.05) / 0.05)


def _wood(noise: Noise) -> Tensor:
    planks = noise.uniform(2, 6).round()
    place = noise.x * planks + noise.uniform(0, 1)
    own = ((place.floor() * 78.233).sin() * 43758.5453) % 1.0
    grain = (noise.smooth(2, 10) * 3 + noise.x * noise.uniform(60, 150) + own * 20).sin() * 0.16
    fibres = noise.fractal(4, 90, 2, 0.8) * 0.1
    shade = 0.5 + grain + fibres + (own - 0.5) * 0.35
    gap = ((place % 1.0 - 0.5).abs() - 0.485).clamp_min(0) / 0.015
    colour = _mix(noise.colour(0.36, 0.2, 0.1), noise.colour(0.74, 0.52, 0.3), shade)
    return colour * (1 - 0.7 * gap)


def _leaves(noise: Noise) -> Tensor:
    dark, light = noise.colour(0.05, 0.2, 0.04), noise.colour(0.35, 0.62, 0.15)
    picture = dark.expand(-1, -1, SIDE, SIDE) * (1 + 0.2 * noise.smooth(8, 8))
    for layer in range(26):
        place_x, place_y = noise.uniform(-0.05, 1.05), noise.uniform(-0.05, 1.05)
        angle, length = noise.uniform(0, 2 * math.pi), noise.uniform(0.08, 0.2)
        # Each leaf is repeated on a grid of three by three, which saves hundreds of layers.
        x = (noise.x - place_x + 0.167) % 0.333 - 0.167
        y = (noise.y - place_y + 0.167) % 0.333 - 0.167
        along = (x * angle.cos() + y * angle.sin()) / length
        across = (y * angle.cos() - x * angle.sin()) / length
        width = 0.38 * (1 - along.clamp(-1, 1) ** 2)
        cover = ((width - across.abs()) * length * SIDE).clamp(0, 1)
        vein = 1 - 0.3 * (1 - across.abs() / 0.035).clamp(0, 1)
        shade = 0.15 + 0.6 * layer / 26 + 0.5 * across + noise.uniform(-0.15, 0.15)
        picture = _mix(picture, _mix(dark, light, shade) * vein, cover)
    return picture


def _stone(noise: Noise) -> Tensor:
    rough = noise.fractal(4, 4, 6, 0.62)
    cracks = (1 - noise.fractal(3, 3, 3).abs() / 0.05).clamp(0, 1) * 0.25
    return _mix(noise.colour(0.32, 0.31, 0.3), noise.colour(0.7, 0.69, 0.66), rough * 0.25 + 0.5) - cracks


def _snow(noise: Noise) -> Tensor:
    drifts = noise.fractal(2, 2, 4, 0.5) * 0.25 + 0.6 + noise.fractal(64, 64, 2) * 0.03
    return _mix(noise.colour(0.72, 0.79, 0.9, 0.02), noise.colour(0.96, 0.97, 0.99, 0.015), drifts)


PAINT: dict[str, Callable[[Noise], Tensor]] = {
    "grass": _grass,
    "sand": _sand,
    "water": _water,
    "sky": _sky,
    "bricks": _bricks,
    "wood": _wood,
    "leaves": _leaves,
    "stone": _stone,
    "snow": _snow,
}


def paint_scene(name: str, count: int, generator: torch.Generator) -> Tensor:
    """[count, 3, 256, 256] in 0..1: different pictures of the named scene."""
    return PAINT[name](Noise(count, generator)).clamp(0, 1)
