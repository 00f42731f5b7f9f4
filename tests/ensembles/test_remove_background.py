"""The input of u2net and IS-Net, how remove_background applies their alpha, and the colours that it knows."""

from __future__ import annotations

import numpy as np
import pytest
from nexus_ensembles import remove_background
from nexus_ensembles.errors import BadInput
from PIL import Image

from tests.ensembles.support.fakes import FakeNetworks, decode, encode, noise, run


@pytest.mark.parametrize(
    ("text", "colour"),
    [
        ("transparent", None),
        ("  Transparent\n", None),
        ("white", (255, 255, 255)),
        ("RebeccaPurple", (102, 51, 153)),
        ("#0f8", (0, 255, 136)),
        ("#102030", (16, 32, 48)),
        ("rgb(1, 2, 255)", (1, 2, 255)),
        ("rgb(100%, 0%, 50%)", (255, 0, 128)),
        ("hsl(120, 100%, 50%)", (0, 255, 0)),
    ],
)
def test_colours(text: str, colour: tuple[int, int, int] | None) -> None:
    assert remove_background.parse_background(text) == colour


@pytest.mark.parametrize(
    "text",
    [
        *["", " ", "whitish", "#12", "#ggg", "white\0", "\ufffd\ufffd", "x" * 100_000, "rgb(256,0,0)"],
        *["rgb(99999999999999999999,0,0)", "rgb(101%,0%,0%)", "white" + " " * 100 + "x", "rgb(-1,0,0)"],
    ],
)
def test_strings_that_are_no_colour(text: str) -> None:
    networks = FakeNetworks()
    with pytest.raises(BadInput) as caught:
        run(remove_background.run(networks, image=encode(noise(8, 8)), background=text))
    assert str(caught.value) == remove_background._NOT_A_COLOUR
    assert networks.calls == []


@pytest.mark.parametrize("text", ["#0f88", "#10203040", "rgba(1,2,3,4)"])
def test_translucent_colours(text: str) -> None:
    with pytest.raises(BadInput, match=r'^background must be an opaque colour or "transparent".$'):
        remove_background.parse_background(text)


def test_u2net_gets_the_photo_at_320() -> None:
    networks, pixels = FakeNetworks(), noise(640, 480)
    run(remove_background.run(networks, image=encode(pixels)))
    (inputs,) = networks.of("u2net")
    assert list(inputs) == ["image"]
    assert (inputs["image"].shape, inputs["image"].dtype.name) == ((320, 320, 3), "uint8")
    # as rembg: Lanczos, whatever the photo's ratio
    np.testing.assert_array_equal(
        inputs["image"], np.asarray(Image.fromarray(pixels).resize((320, 320), Image.Resampling.LANCZOS))
    )


def test_isnet_gets_the_photo_at_1024() -> None:
    networks, pixels = FakeNetworks(), noise(200, 300)
    result = decode(run(remove_background.run(networks, image=encode(pixels), model="isnet"))["image"])
    (inputs,) = networks.of("isnet")
    np.testing.assert_array_equal(
        inputs["image"], np.asarray(Image.fromarray(pixels).resize((1024, 1024), Image.Resampling.LANCZOS))
    )
    assert networks.of("u2net") == []
    # Lanczos reaches 3 pixels of the smaller picture from the edge
    np.testing.assert_array_equal(result[:97], pixels[:97])
    assert (result[103:] == 255).all()


@pytest.mark.parametrize("model", [" ", "U2NET", "u2net ", "birefnet", "\ufffd", "x" * 100_000])
def test_models_that_are_none(model: str) -> None:
    networks = FakeNetworks()
    with pytest.raises(BadInput, match=r"^model must be 'u2net' or 'isnet'\.$"):
        run(remove_background.run(networks, image=encode(noise(8, 8)), model=model))
    assert networks.calls == []


def test_a_model_that_is_not_built() -> None:
    networks = FakeNetworks(not_built=("isnet",))
    with pytest.raises(BadInput) as caught:
        run(remove_background.run(networks, image=encode(noise(8, 8)), model="isnet"))
    assert str(caught.value) == (
        "isnet is not available on this server; ask for u2net, or have its operator build it "
        "(nexus-export build isnet --checkpoint ...)."
    )


def test_transparent_keeps_every_colour() -> None:
    pixels = noise(320, 320)
    result = decode(
        run(remove_background.run(FakeNetworks(), image=encode(pixels), background="transparent"))["image"]
    )
    np.testing.assert_array_equal(result[..., :3], pixels)
    assert (result[:, :160, 3] == 255).all()
    assert (result[:, 160:, 3] == 0).all()


def test_the_background_is_white_unless_given() -> None:
    pixels = noise(320, 320)
    result = decode(run(remove_background.run(FakeNetworks(), image=encode(pixels)))["image"])
    assert result.shape == (320, 320, 3)
    np.testing.assert_array_equal(result[:, :160], pixels[:, :160])
    assert (result[:, 160:] == 255).all()


def test_the_alpha_is_scaled_to_the_photo() -> None:
    pixels = noise(100, 640)
    image = encode(pixels)
    result = decode(run(remove_background.run(FakeNetworks(), image=image, background="#102030"))["image"])
    # Lanczos reaches 3 pixels of the smaller picture, 6 of this one, from the edge at 320
    np.testing.assert_array_equal(result[:, :314], pixels[:, :314])
    assert (result[:, 326:] == (0x10, 0x20, 0x30)).all()


def test_the_photo_s_own_alpha_multiplies() -> None:
    pixels = noise(320, 320, 4)
    result = decode(
        run(remove_background.run(FakeNetworks(), image=encode(pixels), background="transparent"))["image"]
    )
    np.testing.assert_array_equal(result[..., :3], pixels[..., :3])
    np.testing.assert_array_equal(result[:, :160, 3], pixels[:, :160, 3])
    assert (result[:, 160:, 3] == 0).all()
