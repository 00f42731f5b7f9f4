"""Cleans a mask by its connected regions: drops specks, fills holes and slivers at the photo's edge."""

import itertools

import cv2
import numpy as np

from nexus_ensembles.networks import Array, Bool, Float32


def drop_small_regions(logits: Float32, area: int) -> Float32:
    """Clear specks and fill holes of fewer than `area` pixels in FP32 [h, w] logits.

    The idea of segment-anything's remove_small_regions, on logits so that the resize that follows still interpolates,
    and on contours, since there are few. Regions are 8-connected. A hole lies wholly inside one, or between it and the
    edge of the photo; the largest part of the background at the edge is never a hole. If every speck is small, the
    largest stays: a click always selects something.
    """
    if area < 2:
        return logits
    inside = np.asarray(logits > 0)
    contours, hierarchy = cv2.findContours(inside.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    slivers = _slivers(inside)
    if len(contours) + len(slivers) < 2:  # mostly one region without holes
        return logits
    cleaned = logits.copy()
    is_hole = hierarchy[0, :, 3] >= 0
    for contour in itertools.chain(itertools.compress(contours, is_hole), slivers):
        rows, columns, filled = _filled(contour)
        hole = filled & ~inside[rows, columns]
        if np.count_nonzero(hole) < area:
            cleaned[rows, columns][hole] = 1
    specks = []
    for contour in itertools.compress(contours, ~is_hole):
        rows, columns, filled = _filled(contour)
        region = filled & (cleaned[rows, columns] > 0)
        specks.append((np.count_nonzero(region), rows, columns, region))
    specks.sort(key=lambda speck: speck[0])
    for size, rows, columns, region in specks[:-1]:
        if size < area:
            cleaned[rows, columns][region] = -1
    return cleaned


def _slivers(inside: Bool) -> list[Array]:
    """Contours of the background of BOOL [H, W] at the photo's edge, but for the largest."""
    height, width = inside.shape
    if not inside[[0, -1]].any() and not inside[:, [0, -1]].any():
        return []
    contours, _ = cv2.findContours((~inside).view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    at_edge = []
    for contour in contours:
        x, y, w, h = cv2.boundingRect(contour)
        if x == 0 or y == 0 or x + w == width or y + h == height:
            at_edge.append(contour)
    return sorted(at_edge, key=cv2.contourArea)[:-1]


def _filled(contour: Array) -> tuple[slice, slice, Bool]:
    """Rows and columns of the rectangle around an OpenCV contour, and BOOL of that shape: True inside the contour."""
    x, y, width, height = cv2.boundingRect(contour)
    filled = cv2.drawContours(
        np.zeros((height, width), np.uint8), [contour], -1, (1,), cv2.FILLED, offset=(-x, -y)
    )
    return slice(y, y + height), slice(x, x + width), np.asarray(filled, np.bool_)
