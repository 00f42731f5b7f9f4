"""Procedural textures and edges for a hole to continue, in more variety than a few photos have.

Every function draws [size, size, 3] FP32, about 0 to 1, from the random generator that it takes.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Texture = NDArray[np.float32]


def _plane(rng: np.random.Generator, size: int) -> tuple[Texture, Texture]:
    # Coordinates in pixels, rotated by any angle and in slight perspective, like a floor or a wall.
    turn = rng.uniform(0, np.pi)
    y, x = np.mgrid[:size, :size].astype(np.float32) - size / 2
    depth = 1 + rng.uniform(-0.4, 0.4) * x / size + rng.uniform(-0.4, 0.4) * y / size
    u, v = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    return (u / depth).astype(np.float32), (v / depth).astype(np.float32)


def _noise(rng: np.random.Generator, size: int, slope: float, stretch: float = 1.0) -> Texture:
    # Noise with a power-law spectrum and a standard deviation of 1; stretched noise is oriented.
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    turn = rng.uniform(0, np.pi)
    along, across = np.cos(turn) * fx + np.sin(turn) * fy, np.cos(turn) * fy - np.sin(turn) * fx
    radius = np.hypot(along * stretch, across) + 1.0 / size
    spectrum = np.fft.rfft2(rng.standard_normal((size, size))) * radius ** (-slope)
    noise = np.fft.irfft2(spectrum, s=(size, size))
    standard: Texture = ((noise - noise.mean()) / noise.std()).astype(np.float32)
    return standard


def _colour(rng: np.random.Generator) -> Texture:
    # Mostly muted, like most surfaces.
    colour: Texture = (rng.uniform(0, 1) + rng.normal(0, 0.12, 3)).clip(0, 1).astype(np.float32)
    return colour


def _coloured(rng: np.random.Generator, height: Texture) -> Texture:
    # Two colours mixed by a height map [size, size] that is about 0 to 1.
    low, high = _colour(rng), _colour(rng)
    mixed: Texture = (low + (high - low) * height[..., None].clip(-0.3, 1.3)).astype(np.float32)
    return mixed


def noise(rng: np.random.Generator, size: int) -> Texture:
    """Sand, plaster, foliage from afar, brushed metal: coloured noise of any roughness and grain."""
    height = _noise(rng, size, rng.uniform(0.3, 1.8), rng.choice([1.0, rng.uniform(2, 12)]))
    return _coloured(rng, 0.5 + 0.25 * height)


def bricks(rng: np.random.Generator, size: int) -> Texture:
    """Bricks or tiles in courses, each with its own shade, with joints between them."""
    u, v = _plane(rng, size)
    width, height = rng.uniform(16, 90), rng.uniform(10, 50)
    course = np.floor(v / height)
    u = u + width * rng.choice([0.0, 0.5]) * course
    joint = rng.uniform(1, 4)
    edge = np.minimum(np.minimum(u % width, width - u % width), np.minimum(v % height, height - v % height))
    shades = rng.normal(0, rng.uniform(0.02, 0.2), 4096).astype(np.float32)
    each = shades[(np.floor(u / width) * 53 + course * 97).astype(np.int64) % 4096]
    body = rng.uniform(0.5, 1.0) + each + rng.uniform(0.01, 0.12) * _noise(rng, size, rng.uniform(0.2, 1.2))
    blend = (edge / joint).clip(0, 1)
    return _coloured(rng, (body * blend).astype(np.float32))


def weave(rng: np.random.Generator, size: int) -> Texture:
    """Fabric, blinds, corrugation, checkerboards: slightly irregular waves in one or two directions."""
    u, v = _plane(rng, size)
    wobble = rng.uniform(0, 3) * _noise(rng, size, 1.6)
    first = np.sin((u + wobble) * 2 * np.pi / rng.uniform(5, 48))
    second = np.sin((v + wobble) * 2 * np.pi / rng.uniform(5, 48))
    mixed = [first, first * second, np.maximum(first, second), np.sign(first * second)][rng.integers(4)]
    grain = rng.uniform(0, 0.1) * _noise(rng, size, rng.uniform(0.1, 1.0))
    return _coloured(rng, (0.5 + 0.4 * mixed + grain).astype(np.float32))


def wood(rng: np.random.Generator, size: int) -> Texture:
    """Wood cut lengthwise: long warped bands and a fine grain."""
    u, v = _plane(rng, size)
    bands = (v + rng.uniform(3, 25) * _noise(rng, size, 1.8, 4.0)) / rng.uniform(8, 60) + u / size
    ring = bands % 1.0
    grain = rng.uniform(0.02, 0.15) * _noise(rng, size, 0.5, rng.uniform(5, 20))
    return _coloured(rng, (ring + grain).astype(np.float32))


def gravel(rng: np.random.Generator, size: int) -> Texture:
    """Pebbles, leaves, cells: a Voronoi diagram with a shade a cell."""
    count = int(np.exp(rng.uniform(np.log(40), np.log(3000))))
    seeds = np.ones((size, size), np.uint8)
    seeds[rng.integers(0, size, count), rng.integers(0, size, count)] = 0
    distance, label = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    shade = rng.uniform(0.2, 1.0, int(label.max()) + 1).astype(np.float32)[label]
    round_off = 1.0 - distance / (distance.max() + 1e-6) * rng.uniform(0, 1.5)
    grain = rng.uniform(0, 0.1) * _noise(rng, size, rng.uniform(0.1, 1.0))
    return _coloured(rng, (shade * round_off + grain).astype(np.float32))


def edges(rng: np.random.Generator, size: int) -> Texture:
    """Roofs, horizons, wires: straight and curved borders between areas, plain or lightly textured."""
    picture = np.zeros((size, size, 3), np.float32) + _colour(rng)
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    for _ in range(rng.integers(2, 7)):
        turn = rng.uniform(0, 2 * np.pi)
        side = np.cos(turn) * (x - rng.uniform(0.1, 0.9)) + np.sin(turn) * (y - rng.uniform(0.1, 0.9))
        side += rng.choice([0.0, rng.uniform(-1, 1)]) * (x - 0.5) ** 2
        if rng.random() < 0.4:
            side = rng.uniform(0.005, 0.06) - np.abs(side)
        area = (side * size / rng.uniform(1, 3) + 0.5).clip(0, 1)[..., None]
        colour = _colour(rng) + rng.uniform(-0.3, 0.3) * y[..., None]
        rough = rng.choice([0.0, rng.uniform(0, 0.12)]) * _noise(rng, size, rng.uniform(0.3, 1.5))
        picture = (picture * (1 - area) + (colour + rough[..., None]) * area).astype(np.float32)
    return picture


# Edges occur twice: they are what the eye follows into a hole.
KINDS: tuple[Callable[[np.random.Generator, int], Texture], ...] = (
    noise,
    bricks,
    weave,
    wood,
    gravel,
    edges,
    edges,
)


def random_texture(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """A texture of a random kind, UINT8 [size, size, 3]."""
    drawn = KINDS[rng.integers(len(KINDS))](rng, size)
    return (drawn.clip(0.0, 1.0) * 255.0).round().astype(np.uint8)
