"""Generative fill follows its prompt, with fixed seeds on a real Triton: colours, guidance, the background."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from nexus_client import Client
from PIL import Image
from skimage.metrics import structural_similarity

from tests.functional.support.deployment import PHOTOS
from tests.functional.support.photos import ellipse

Float = npt.NDArray[np.float64]

PHOTO = "coffee.jpg"
CENTRE, HALF = (300, 220), (80, 80)
OPTIONS: dict[str, Any] = {"steps": 12, "strength": 1.0, "guidance_scale": 5.0}


def photo() -> Image.Image:
    return Image.open(PHOTOS / PHOTO).convert("RGB")


def region(scale: float = 1.0) -> npt.NDArray[np.bool_]:
    """An ellipse over the cup, or its middle only."""
    width, height = photo().size
    half = round(HALF[0] * scale), round(HALF[1] * scale)
    return ellipse((height, width), CENTRE, half)


def painted(client: Client, prompt: str, **options: Any) -> Float:
    """FP64 [H, W, 3], 0 to 255; asserts that pixels outside the mask are the photo's, byte for byte."""
    fill = client.generative_fill(photo(), region(), prompt, **{**OPTIONS, "seed": 3, **options})
    result, before = np.asarray(fill.image), np.asarray(photo())
    np.testing.assert_array_equal(result[~region()], before[~region()])
    assert fill.notices == ()
    return result.astype(np.float64)


def mean_colour(picture: Float) -> Float:
    """The mean RGB in the middle of the painted area."""
    mean: Float = picture[region(0.5)].mean(axis=0)
    return mean


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("prompt", "channel"), [("a red ball", 0), ("a green ball", 1), ("a blue ball", 2)])
def test_colours_follow_the_prompt(client: Client, prompt: str, channel: int, seed: int) -> None:
    colour = mean_colour(painted(client, prompt, seed=seed))
    others = np.delete(colour, channel)
    assert colour[channel] > 1.3 * others.max(), colour


def test_black_is_dark_and_white_is_light(client: Client) -> None:
    black, white = (mean_colour(painted(client, f"a {name} cube")).mean() for name in ("black", "white"))
    assert white > black + 80


def test_guidance_changes_the_picture(client: Client) -> None:
    weak, strong = (painted(client, "a red ball", guidance_scale=scale) for scale in (1.0, 7.5))
    assert np.abs(weak - strong)[region()].mean() > 5


def test_an_empty_prompt_continues_the_background(client: Client) -> None:
    """With the server's default guidance, on average closer to the original by SSIM than the mean colour around it."""
    leads = []
    for path in sorted(PHOTOS.glob("*.jpg")):
        picture = Image.open(path).convert("RGB")
        picture.thumbnail((512, 512))
        lost = ellipse((picture.height, picture.width), (picture.width // 2, picture.height // 2), (70, 70))
        filled = np.asarray(client.generative_fill(picture, lost, "", seed=3, steps=12, strength=1.0).image)
        truth = np.asarray(picture)
        flat = np.where(lost[..., None], truth[~lost].mean(axis=0), truth).astype(np.uint8)
        leads.append(likeness(filled, truth, lost) - likeness(flat, truth, lost))
    assert len(leads) == 8
    assert np.mean(leads) > 0, leads  # 0.037, and at least 0.024 on each photo


def likeness(
    picture: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8], where: npt.NDArray[np.bool_]
) -> float:
    """SSIM of the luminance over the box around `where`."""
    rows, columns = np.nonzero(where)
    box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    grey = [np.asarray(Image.fromarray(pixels[box]).convert("L")) for pixels in (picture, truth)]
    value = structural_similarity(  # type: ignore[no-untyped-call]
        *grey, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    return float(value)
