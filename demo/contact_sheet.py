"""Draws one picture of every operation: input with clicks, mask, result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont, ImageOps

CELL = (400, 300)
GAP = 12
LABEL = 26
HEADINGS = ("input", "mask", "result")


@dataclass(frozen=True)
class Row:
    """One operation. `mask` is BOOL [H, W], or UINT8 [H, W] for an alpha channel; `input` and `result` are RGB."""

    label: str
    input: Image.Image
    mask: npt.NDArray[Any]
    result: Image.Image


def draw(rows: list[Row]) -> Image.Image:
    """Lay the rows out under one another, every cell labelled."""
    width = GAP + len(HEADINGS) * (CELL[0] + GAP)
    height = GAP + len(rows) * (LABEL + CELL[1] + GAP)
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=17)
    for number, row in enumerate(rows):
        top = GAP + number * (LABEL + CELL[1] + GAP)
        mask = Image.fromarray(row.mask.astype(np.uint8) * 255 if row.mask.dtype == bool else row.mask)
        for column, (heading, picture) in enumerate(zip(HEADINGS, (row.input, mask, row.result))):
            left = GAP + column * (CELL[0] + GAP)
            pen.text((left, top), row.label if column == 0 else heading, fill="black", font=font)
            fitted = ImageOps.contain(picture.convert("RGB"), CELL, Image.Resampling.LANCZOS)
            offset = ((CELL[0] - fitted.width) // 2, (CELL[1] - fitted.height) // 2)
            pen.rectangle((left, top + LABEL, left + CELL[0], top + LABEL + CELL[1]), fill="#e8e8e8")
            sheet.paste(fitted, (left + offset[0], top + LABEL + offset[1]))
    return sheet


def on_checkerboard(cutout: Image.Image) -> Image.Image:
    """An RGBA picture over a grey checkerboard, which shows its transparency."""
    square = max(cutout.size) // 32
    y, x = np.mgrid[: cutout.height, : cutout.width] // square
    board = Image.fromarray(np.where((x + y) % 2, 255, 205).astype(np.uint8)).convert("RGBA")
    return Image.alpha_composite(board, cutout).convert("RGB")
