"""Contact sheets of a measurement: the input, FP32's output, the artifact's output, and their difference."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nexus_export.exported import Array
from nexus_export.files import translate_os_errors
from nexus_export.networks import Network, Precision
from nexus_export.quality.comparison import Comparison, planes
from nexus_export.quality.metrics import peak_of
from nexus_export.quality.photos import Pixels
from nexus_export.quality.pipelines import Sample

# Differences are amplified this many times.
GAIN = 8
# Rows of a sheet, and the size of its pictures.
_ROWS, _WIDTH, _HEIGHT = 3, 320, 240
_TITLE, _GAP = 22, 6
_CLICKS = {1: (60, 220, 90), 0: (230, 50, 50), 2: (255, 210, 0), 3: (255, 210, 0)}
_HOLE = (255, 0, 255)


def write_contact_sheet(
    path: Path, network: Network, precision: Precision, compared: Sequence[Comparison], note: str
) -> None:
    """Draw some of the comparisons into a JPEG, with `note` beside the network's name.

    Raises BuildError if the folder cannot be written.
    """
    chosen = [compared[index] for index in np.linspace(0, len(compared) - 1, _ROWS).round().astype(int)]
    titles = ("input", "FP32", precision.upper(), f"difference x{GAIN}")
    width = len(titles) * (_WIDTH + _GAP) + _GAP
    sheet = Image.new("RGB", (width, 2 * _TITLE + len(chosen) * (_HEIGHT + _GAP)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    draw.text((_GAP, 4), f"{network.name} at {precision}: {note}", fill="black", font=font)
    for column, title in enumerate(titles):
        draw.text((_GAP + column * (_WIDTH + _GAP), _TITLE + 2), title, fill="black", font=font)
    for row, comparison in enumerate(chosen):
        for column, picture in enumerate(_pictures(comparison)):
            place = (_GAP + column * (_WIDTH + _GAP), 2 * _TITLE + row * (_HEIGHT + _GAP))
            sheet.paste(_fitted(picture), place)
    with translate_os_errors(path.parent, option="--report"):
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path, quality=88)


def _pictures(compared: Comparison) -> tuple[Pixels, Pixels, Pixels, Pixels]:
    """The four pictures of a comparison, each UINT8 [H, W, 3]."""
    one = planes(compared.sample, compared.reference)
    other = planes(compared.sample, compared.found)
    return (_input(compared.sample), _colours(one, one), _colours(other, one), _difference(one, other))


def _colours(channels: Array, scale: Array) -> Pixels:
    """Planes [C, H, W] as colours: UINT8 as it is, others from the least to the largest value of `scale`."""
    shown = channels[:3] if len(channels) >= 3 else np.repeat(channels[:1], 3, axis=0)
    if shown.dtype != np.uint8:
        least, peak = float(scale.min()), peak_of(scale) or 1.0
        shown = ((shown - least) / peak * 255).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(shown.transpose(1, 2, 0))


def _difference(one: Array, other: Array) -> Pixels:
    levels = np.abs(one.astype(np.float64) - other) / (peak_of(one) or 1.0) * 255
    return _colours((levels * GAIN).clip(0, 255).astype(np.uint8), one)


def _input(sample: Sample) -> Pixels:
    """The photo, with its clicks or its hole, or the prompt."""
    if isinstance(sample.subject, str):
        return _text(sample.subject)
    inputs, image = sample.inputs, sample.subject
    if "mask" in inputs:
        image = np.where(inputs["mask"][0] > 0, np.array(_HOLE, np.uint8), image)
    picture = Image.fromarray(np.ascontiguousarray(image))
    if "points" in inputs:
        draw, radius = ImageDraw.Draw(picture), max(picture.size) // 50
        for (x, y), label in zip(inputs["points"][0], inputs["labels"][0].astype(int), strict=True):
            if label in _CLICKS:
                draw.circle((x, y), radius, fill=_CLICKS[label], outline="white")
    return np.asarray(picture)


def _text(text: str) -> Pixels:
    picture = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    lines = textwrap.fill(text, 26)
    ImageDraw.Draw(picture).text((8, 8), lines, fill="black", font=ImageFont.load_default(18))
    return np.asarray(picture)


def _fitted(pixels: Pixels) -> Image.Image:
    """The picture as large as fits, in the middle of its place; small ones enlarged without smoothing."""
    picture = Image.fromarray(pixels)
    scale = min(_WIDTH / picture.width, _HEIGHT / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    smooth = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
    place = Image.new("RGB", (_WIDTH, _HEIGHT), (238, 238, 238))
    place.paste(picture.resize(size, smooth), ((_WIDTH - size[0]) // 2, (_HEIGHT - size[1]) // 2))
    return place
