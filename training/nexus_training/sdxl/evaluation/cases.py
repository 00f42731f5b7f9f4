"""Test cases for a trained compact SDXL: held-out combinations on held-out photos, with masks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nexus_training.sdxl.captions import COLOURS, MATERIALS, SHAPES, is_held_out
from nexus_training.sdxl.photo_crops import SIDE
from nexus_training.sdxl.samples import centre_square

# Colour is measured in the mask shrunk by this factor about its centre, which is inside the object for any outline.
CORE = 0.7


@dataclass(frozen=True)
class Case:
    """One prompt on one background with one mask."""

    shape: str
    colour: str
    prompt: str
    image: Tensor  # [3, 256, 256]
    mask: Tensor  # [1, 256, 256]
    core: NDArray[np.bool_]  # [256, 256]


def backgrounds(
    photos: Sequence[NDArray[np.uint8]], rng: np.random.Generator, count: int
) -> NDArray[np.uint8]:
    """[count, 256, 256, 3]: crops of each photo in turn, of half to all of its short side."""
    crops = []
    for index in range(count):
        photo = photos[index % len(photos)]
        window = int(min(photo.shape[:2]) * rng.uniform(0.5, 1.0))
        top = int(rng.integers(0, photo.shape[0] - window + 1))
        left = int(rng.integers(0, photo.shape[1] - window + 1))
        crops.append(centre_square(photo[top : top + window, left : left + window]))
    return np.stack(crops)


def ellipse_or_box(
    x: float, y: float, half: tuple[float, float], box: bool
) -> tuple[Tensor, NDArray[np.bool_]]:
    """A box or an ellipse [1, 256, 256], and its core."""
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    dx, dy = np.abs(columns - x) / half[0], np.abs(rows - y) / half[1]
    distance = np.maximum(dx, dy) if box else np.hypot(dx, dy)
    return torch.from_numpy((distance < 1).astype(np.float32))[None], np.hypot(dx, dy) < CORE


def make_cases(
    photos: Sequence[NDArray[np.uint8]], count: int, seed: int, device: torch.device
) -> list[Case]:
    """Held-out combinations over the backgrounds in turn, with masks of random position, size and kind."""
    rng = np.random.default_rng(seed)
    combinations = [
        (shape, colour, material)
        for shape in range(len(SHAPES))
        for colour in range(len(COLOURS))
        for material in range(len(MATERIALS))
        if is_held_out(shape, colour, material)
    ]
    order = np.concatenate(
        [rng.permutation(len(combinations)) for _ in range(-(-count // len(combinations)))]
    )
    images = torch.from_numpy(backgrounds(photos, rng, count)).to(device).permute(0, 3, 1, 2).float() / 255
    cases = []
    for index in range(count):
        shape, colour, material = combinations[order[index]]
        words = [list(COLOURS)[colour], list(SHAPES)[shape]]
        if MATERIALS[material] != "plain":
            words.insert(0, MATERIALS[material])
        article = "an" if words[0] == "orange" else "a"
        half = float(rng.uniform(50, 92))
        halves = (half, half * float(rng.uniform(0.9, 1.1)))
        x, y = rng.uniform(half, SIDE - half, 2)
        mask, core = ellipse_or_box(float(x), float(y), halves, bool(rng.random() < 0.5))
        prompt = f"{article} {' '.join(words)}"
        cases.append(Case(words[-1], list(COLOURS)[colour], prompt, images[index], mask.to(device), core))
    return cases
