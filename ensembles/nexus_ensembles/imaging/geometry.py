"""Dilation, crops around a mask, padding, and pasting a fill back."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np

from nexus_ensembles.networks import Array, Bool, UInt8


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels: left and top inside, right and bottom outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, to index an array [H, W, ...]."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def overlaps(self, other: Box) -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def union(self, other: Box) -> Box:
        return Box(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
        )


def bounds(mask: Bool) -> Box:
    """The smallest rectangle around the True pixels."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return Box(x, y, x + width, y + height)


def dilate(mask: Bool, width: int, height: int | None = None) -> Bool:
    """Grow BOOL [H, W] by an elliptical kernel of `width` x `height` pixels, or `width` x `width`.

    A width of 0 or 1 leaves it as it is; a given height is at least 2.
    """
    height = width if height is None else height
    if width < 2 or not mask.any():
        return mask
    # Row by row of the kernel, each row's run grown out of the next shorter one. It equals cv2.dilate, whose
    # cost is the kernel's area for every pixel (12 megapixels by 255 x 255: half a minute, here a second).
    kernel: Array = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, height))
    near = bounds(mask)
    near = Box(
        max(0, near.left - width),
        max(0, near.top - height),
        min(mask.shape[1], near.right + width),
        min(mask.shape[0], near.bottom + height),
    )
    source: Array = mask[near.slices].view(np.uint8)
    grown = np.zeros(mask.shape, np.bool_)
    target = grown[near.slices].view(np.uint8)
    columns = [row.nonzero()[0] - width // 2 for row in kernel]
    runs = [(-int(run[0]), int(run[-1]), y - height // 2) for y, run in enumerate(columns)]
    left = right = 0
    for to_left, to_right, down in sorted(runs, key=lambda run: run[0] + run[1]):
        if (to_left, to_right) != (left, right):
            step = np.ones((1, to_left - left + to_right - right + 1), np.uint8)
            source = cv2.dilate(source, step, anchor=(to_left - left, 0))
            left, right = to_left, to_right
        rows = len(target) - abs(down)
        if rows > 0:
            target[max(0, -down) :][:rows] |= source[max(0, down) :][:rows]
    return grown


def crops_around(mask: Bool, *, margin: int, smallest: int, step: int, most: int) -> list[Box]:
    """Cover every True of BOOL [H, W] by rectangles, each with its surroundings.

    Each connected region gets `margin` pixels, or half its own size where that is more, on every side, at least
    `smallest` pixels in all, is rounded up to a multiple of `step` (so that crops of different photos have equal
    shapes and share batches), and is moved inside the photo where it sticks out. Rectangles that overlap become one,
    and more than `most` become one, since scattered dust is cheaper filled together.
    """
    height, width = mask.shape
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8))
    if count > 4 * most:  # merging is cubic, and so much dust ends as one rectangle anyway
        tight = [bounds(mask)]
    else:
        tight = [Box(x, y, x + w, y + h) for x, y, w, h, _ in stats[1:].tolist()]

    def around(box: Box) -> Box:
        spans = []
        for low, high, limit in ((box.left, box.right, width), (box.top, box.bottom, height)):
            length = max(smallest, high - low + 2 * max(margin, (high - low) // 2))
            length = min(limit, -(-length // step) * step)
            start = start_around(low, high, length, limit)
            spans.append((start, start + length))
        return Box(spans[0][0], spans[1][0], spans[0][1], spans[1][1])

    while pair := _overlapping_pair([around(box) for box in tight]):
        tight.append(tight.pop(pair[1]).union(tight.pop(pair[0])))
    if len(tight) > most:
        tight = [bounds(mask)]
    return [around(box) for box in tight]


def start_around(low: int, high: int, length: int, limit: int) -> int:
    """The start of `length` pixels centred on the span from `low` to `high`, moved inside 0 to `limit`."""
    return min(max(0, (low + high - length) // 2), limit - length)


def _overlapping_pair(boxes: list[Box]) -> tuple[int, int] | None:
    """The indices, in order, of two boxes that overlap."""
    pairs = itertools.combinations(range(len(boxes)), 2)
    return next(((i, j) for i, j in pairs if boxes[i].overlaps(boxes[j])), None)


def pad_to_multiple(pixels: Array, modulus: int, least: int = 0) -> Array:
    """Reflect [H, W, C] at its right and bottom edges up to the next multiples of `modulus`, at least `least`."""
    bottom, right = (max(least - side, -side % modulus) for side in pixels.shape[:2])
    if not bottom and not right:
        return pixels
    # "symmetric" repeats the edge itself and, unlike "reflect", works on a side of one pixel; padding that is longer
    # than the side goes to and fro
    return np.pad(pixels, ((0, bottom), (0, right), (0, 0)), mode="symmetric")


def paste(canvas: UInt8, fill: UInt8, mask: Bool, dilated_mask: Bool) -> None:
    """Blend `fill` into `canvas`, both UINT8 [H, W, C], in place.

    Inside `mask`, which the caller asked to replace, the fill is taken whole. In the ring that dilation added
    (`dilated_mask` but not `mask`, both BOOL [H, W]) it fades into the photo with the distance from the mask: the seam
    is feathered without a trace of the removed object. Outside `dilated_mask` not one byte changes.
    """
    near = bounds(dilated_mask).slices
    canvas, fill, mask, dilated_mask = canvas[near], fill[near], mask[near], dilated_mask[near]
    np.copyto(canvas, fill, where=mask[..., None])
    ring = dilated_mask & ~mask
    if not ring.any():
        return
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[ring]
    weight = (1 - distance / (distance.max() + 1))[:, None]
    canvas[ring] = (fill[ring] * weight + canvas[ring] * (1 - weight) + 0.5).astype(np.uint8)
