"""The calls of lama, their sizes, and the picture that cleanup returns."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from nexus_ensembles import cleanup
from nexus_ensembles.errors import BadInput, Overloaded
from nexus_ensembles.imaging import geometry
from PIL import Image

from tests.ensembles.support.fakes import FILL, FakeNetworks, decode, encode, noise, run


def mask_of(height: int, width: int, *boxes: tuple[int, int, int, int]) -> npt.NDArray[np.bool_]:
    """True inside each (top, bottom, left, right)."""
    mask = np.zeros((height, width), np.bool_)
    for top, bottom, left, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


def filled(
    networks: FakeNetworks, pixels: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_], **options: Any
) -> Any:
    image = encode(pixels, compress_level=1)
    outputs = run(cleanup.run(networks, image=image, mask=encode(mask), **options))
    assert list(outputs) == ["image"]
    return decode(outputs["image"])


def test_lama_gets_the_photo_and_the_dilated_mask() -> None:
    networks, pixels, mask = FakeNetworks(), noise(512, 640), mask_of(512, 640, (200, 220, 300, 330))
    filled(networks, pixels, mask)
    ((name, inputs),) = networks.calls
    assert name == "lama"
    assert {key: (array.shape, array.dtype.name) for key, array in inputs.items()} == {
        "image": ((512, 512, 3), "uint8"),
        "mask": ((512, 512, 1), "uint8"),
    }
    # the crop is 512 wide around the hole's middle, 315
    np.testing.assert_array_equal(inputs["image"], pixels[:, 59:571])
    np.testing.assert_array_equal(inputs["mask"][..., 0], geometry.dilate(mask, 3)[:, 59:571] * np.uint8(255))


@pytest.mark.parametrize("dilate", [0, 1, 3, 8, 31])
def test_pixels_outside_the_dilated_mask_stay_and_those_inside_are_filled(dilate: int) -> None:
    pixels, mask = noise(90, 131), mask_of(90, 131, (40, 50, 60, 80))
    result = filled(FakeNetworks(), pixels, mask, dilate=dilate)
    outside = ~geometry.dilate(mask, dilate)
    np.testing.assert_array_equal(result[outside], pixels[outside])
    assert (result[mask] == FILL).all()


@pytest.mark.parametrize(
    ("size", "working"),
    [
        ((90, 131), (96, 136)),
        ((2, 1), (16, 16)),
        ((1, 3), (16, 16)),
        ((8, 8), (16, 16)),
        ((16, 17), (16, 24)),
        ((8, 200), (16, 200)),
        ((500, 5), (504, 16)),
    ],
)
def test_sides_are_padded_to_multiples_of_eight_from_sixteen(
    size: tuple[int, int], working: tuple[int, int]
) -> None:
    networks, pixels, mask = FakeNetworks(), noise(*size), mask_of(*size, (0, 1, 0, 1))
    result = filled(networks, pixels, mask, dilate=0)
    (inputs,) = networks.of("lama")
    assert inputs["image"].shape == (*working, 3)
    assert inputs["mask"].shape == (*working, 1)
    # mirrored to and fro: each padded row and column is one of the photo's, and the hole is mirrored with it
    rows, columns = (
        np.concatenate([np.arange(side), np.arange(side)[::-1]] * 16)[:length]
        for side, length in zip(size, working)
    )
    np.testing.assert_array_equal(inputs["image"], pixels[rows][:, columns])
    np.testing.assert_array_equal(inputs["mask"][..., 0] > 0, mask[rows][:, columns])
    np.testing.assert_array_equal(result, np.where(mask[..., None], FILL, pixels))


def test_a_small_object_in_12_megapixels_is_filled_at_native_detail() -> None:
    networks, mask = FakeNetworks(), mask_of(3000, 4000, (1400, 1500, 2000, 2100))
    pixels = np.tile(noise(300, 400), (10, 10, 1))  # quicker to encode than so much noise
    result = filled(networks, pixels, mask)
    (inputs,) = networks.of("lama")
    assert inputs["image"].shape == (512, 512, 3)
    np.testing.assert_array_equal(inputs["image"], pixels[1194:1706, 1794:2306])
    np.testing.assert_array_equal(result[~geometry.dilate(mask, 3)], pixels[~geometry.dilate(mask, 3)])


@pytest.mark.parametrize(
    "box", [(500, 2500, 500, 3500), (0, 2900, 0, 4000), (0, 40, 0, 4000), (1000, 1900, 1500, 2400)]
)
def test_no_call_is_larger_than_the_largest_crop(box: tuple[int, int, int, int]) -> None:
    networks, mask = FakeNetworks(), mask_of(3000, 4000, box)
    pixels = np.full((3000, 4000, 3), 9, np.uint8)
    result = filled(networks, pixels, mask)
    for inputs in networks.of("lama"):
        height, width, _ = inputs["image"].shape
        # the working size is within the area, and padding adds less than 8 a side
        assert (height - 7) * (width - 7) <= cleanup.CROP_MAX_AREA
        assert max(height, width) <= cleanup.CROP_LONGEST
        assert height % 8 == width % 8 == 0
    # Enlarging the fill again mixes 2 working pixels, of up to 4 of the photo's each, across the edge of the hole.
    inside = ~geometry.dilate(~mask, 2 * 2 * 4 + 1)
    assert (result[inside] == FILL).all()
    np.testing.assert_array_equal(result[~geometry.dilate(mask, 3)], pixels[~geometry.dilate(mask, 3)])


def test_a_shrunk_hole_covers_every_pixel_that_holds_any_of_it() -> None:
    networks, mask = FakeNetworks(), mask_of(3072, 3072, (0, 3072, 0, 1), (1500, 1501, 0, 3000))
    filled(networks, np.zeros((3072, 3072, 3), np.uint8), mask, dilate=0)
    (inputs,) = networks.of("lama")
    assert inputs["image"].shape == (1024, 1024, 3)
    expected = mask_of(1024, 1024, (0, 1024, 0, 1), (500, 501, 0, 1000))
    np.testing.assert_array_equal(inputs["mask"][..., 0] > 0, expected)


def test_far_holes_are_filled_apart() -> None:
    networks = FakeNetworks()
    mask = mask_of(2000, 3000, (100, 110, 100, 110), (1900, 1910, 100, 110), (1000, 1010, 2900, 2910))
    result = filled(networks, np.zeros((2000, 3000, 3), np.uint8), mask)
    assert [inputs["image"].shape for inputs in networks.of("lama")] == [(512, 512, 3)] * 3
    assert sum(np.count_nonzero(inputs["mask"]) for inputs in networks.of("lama")) == np.count_nonzero(
        geometry.dilate(mask, 3)
    )
    assert (result[mask] == FILL).all()


def test_alpha_is_filled_like_a_colour_and_kept_outside() -> None:
    networks, pixels, mask = FakeNetworks(), noise(64, 64, 4), mask_of(64, 64, (20, 30, 20, 30))
    result = filled(networks, pixels, mask)
    colours, alpha = networks.of("lama")
    np.testing.assert_array_equal(colours["image"], pixels[..., :3])
    np.testing.assert_array_equal(alpha["image"], np.repeat(pixels[..., 3:], 3, axis=2))
    outside = ~geometry.dilate(mask, 3)
    np.testing.assert_array_equal(result[outside], pixels[outside])
    assert (result[mask] == FILL).all()


def test_an_opaque_photo_gives_an_opaque_one() -> None:
    pixels, mask = np.dstack([noise(16, 16), np.full((16, 16), 255, np.uint8)]), mask_of(16, 16, (4, 8, 4, 8))
    assert filled(FakeNetworks(), pixels, mask).shape == (16, 16, 3)


@pytest.mark.parametrize(
    ("dilate", "sentence"),
    [
        (-1, "dilate is -1; it must lie between 0 and 255 pixels."),
        (256, "dilate is 256; it must lie between 0 and 255 pixels."),
        (255, "the dilated mask covers the whole image, which leaves nothing to fill it from."),
    ],
)
def test_dilations_that_leave_nothing(dilate: int, sentence: str) -> None:
    networks = FakeNetworks()
    with pytest.raises(BadInput) as caught:
        filled(networks, noise(50, 50), mask_of(50, 50, (20, 30, 20, 30)), dilate=dilate)
    assert str(caught.value) == sentence
    assert networks.calls == []


def test_what_a_network_raises_passes_through() -> None:
    class Full(FakeNetworks):
        async def run(self, network: str, **_: Any) -> dict[str, Any]:
            raise Overloaded(f"{network} cannot take the request now; try again.")

    with pytest.raises(Overloaded, match=r"^lama cannot take the request now; try again\.$"):
        filled(Full(), noise(20, 20), mask_of(20, 20, (5, 9, 5, 9)))


def test_the_result_is_a_png() -> None:
    outputs = run(
        cleanup.run(FakeNetworks(), image=encode(noise(9, 9), "JPEG"), mask=encode(np.eye(9, dtype=np.bool_)))
    )
    assert Image.open(io.BytesIO(outputs["image"])).format == "PNG"
