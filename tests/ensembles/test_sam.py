"""How segment and smart_remove differ when SAM 2 is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nexus_ensembles import segment, smart_remove
from nexus_ensembles.errors import BadInput
from nexus_ensembles.imaging import geometry
from nexus_ensembles.sam import MODELS, ResizeToSquare

from tests.ensembles.support.fakes import FILL, FakeNetworks, decode, encode, noise, run

POINTS = np.array([[50, 25]], np.float32)
BOX = np.array([20, 10, 160, 80], np.float32)
SAM2 = MODELS.get("sam2")


def test_the_networks_get_the_shapes_and_types_of_their_configs() -> None:
    networks, pixels = FakeNetworks(), noise(100, 200)
    run(segment.run(networks, image=encode(pixels), points=POINTS, model="sam2"))
    assert [call.network for call in networks.calls] == ["sam2_encoder", "sam2_decoder"]
    described = [
        {name: (array.shape, array.dtype.name) for name, array in call.inputs.items()}
        for call in networks.calls
    ]
    assert described == [
        {"image": ((1024, 1024, 3), "uint8")},
        {
            "embedding": ((256, 64, 64), "float32"),
            "high_res_0": ((32, 256, 256), "float32"),
            "high_res_1": ((64, 128, 128), "float32"),
            "points": ((8, 2), "float32"),
            "labels": ((8,), "float32"),
            "mask_input": ((1, 256, 256), "float32"),
            "has_mask": ((1,), "float32"),
        },
    ]
    # the whole square is photo: nothing is padded
    np.testing.assert_array_equal(
        networks.calls[0].inputs["image"], ResizeToSquare(200, 100).apply_image(np.asarray(pixels))
    )


def test_a_box_is_followed_by_not_a_point_too() -> None:
    networks = FakeNetworks()
    run(segment.run(networks, image=encode(noise(100, 200)), points=POINTS, box=BOX, model="sam2"))
    (decoder,) = networks.of("sam2_decoder")
    assert decoder["labels"].tolist() == [1, 2, 3, -1, -2, -2, -2, -2]
    # both axes stretched: 1024 / 200 and 1024 / 100; the closing token and the filler are at the origin
    expected = np.zeros((8, 2))
    expected[:3] = [[256, 256], [102.4, 102.4], [819.2, 819.2]]
    np.testing.assert_allclose(decoder["points"], expected, rtol=1e-6)


class Edges(FakeNetworks):
    """A decoder whose single mask is a square of 100 cells with a rim of `rim` cells that hardly count."""

    def __init__(self, rim: int) -> None:
        super().__init__()
        self._rim = rim

    def _sam_decoder(self, **_: Any) -> dict[str, Any]:
        masks = np.full((4, 256, 256), -5, np.float32)
        masks[:, :10, :10] = 5
        masks[0, :100, : 100 + self._rim] = 0.01
        masks[0, :100, :100] = 5
        return {"masks": masks, "scores": np.array(self.scores, np.float32)}


@pytest.mark.parametrize(
    ("rim", "model", "token"),
    [
        (2, "sam2", 0),  # 100 / 102 of the area is sure: 0.9804, at least 0.98
        (3, "sam2", 2),  # 0.971: the best of the other three
        (3, "sam", 0),  # the first SAM takes the single mask as it is
    ],
)
def test_an_unstable_single_mask_gives_way(rim: int, model: str, token: int) -> None:
    networks = Edges(rim)
    outputs = run(segment.run(networks, image=encode(noise(64, 64)), box=BOX / 4, model=model))
    assert outputs["score"] == pytest.approx(networks.scores[token])


def test_an_empty_single_mask_is_stable() -> None:
    """As in the published code, where a share of nothing is 1."""
    nothing = np.full((4, 256, 256), -5, np.float32)
    assert SAM2.select_mask(nothing, np.array([0.1, 0.9, 0.8, 0.7], np.float32), is_ambiguous=False) == 0


def test_one_click_takes_the_best_of_three() -> None:
    networks = FakeNetworks()
    outputs = run(segment.run(networks, image=encode(noise(64, 64)), points=POINTS, model="sam2"))
    assert outputs["score"] == pytest.approx(networks.scores[2])


@pytest.mark.parametrize(("height", "width"), [(300, 451), (1024, 1024), (2000, 500), (31, 97)])
def test_a_mask_survives_the_round_trip_through_the_frame(height: int, width: int) -> None:
    """A rectangle drawn in the low-resolution logits comes back where the photo has it."""
    resize = ResizeToSquare(width, height)
    logits = np.full((256, 256), -1, np.float32)
    logits[:128, :64] = 1
    mask = resize.to_mask(resize.upsample(logits))
    expected = np.zeros((height, width), np.bool_)
    expected[: round(height / 2), : round(width / 4)] = True
    # the edge may lie one cell of the low resolution off
    unsure = np.zeros_like(expected)
    cell_y, cell_x = -(-height // 256), -(-width // 256)
    unsure[max(0, round(height / 2) - cell_y) :][: 2 * cell_y] = True
    unsure[:, max(0, round(width / 4) - cell_x) :][:, : 2 * cell_x] = True
    assert ((mask == expected) | unsure).all()


def test_smart_remove_stretches_a_rough_mask_as_the_photo() -> None:
    networks, rough = FakeNetworks(), np.zeros((512, 1024), np.bool_)
    rough[100:200, 48:300] = True
    pixels = noise(512, 1024)
    outputs = run(smart_remove.run(networks, image=encode(pixels), rough_mask=encode(rough), model="sam2"))
    assert [call.network for call in networks.calls][:2] == ["sam2_encoder", "sam2_decoder"]
    (decoder,) = networks.of("sam2_decoder")
    assert decoder["has_mask"].tolist() == [1]
    # rows are of 2 pixels and columns of 4
    expected = np.full((256, 256), -6, np.float32)
    expected[50:100, 12:75] = 6
    np.testing.assert_allclose(decoder["mask_input"][0], expected, atol=1e-5)  # rounding of the averages
    assert (decode(outputs["image"])[decode(outputs["mask"]) > 0] == FILL).all()


def test_smart_remove_grows_the_mask_by_a_stretched_cell() -> None:
    """Of a photo of 4:1: 8 pixels to the left and right, 2 up and down."""
    image, box = encode(noise(512, 2048)), np.array([10, 10, 200, 100], np.float32)
    found = decode(run(segment.run(FakeNetworks(), image=image, box=box, model="sam2"))["mask"]) > 0
    outputs = run(smart_remove.run(FakeNetworks(), image=image, box=box, model="sam2"))
    mask = decode(outputs["mask"]) > 0
    np.testing.assert_array_equal(mask, geometry.dilate(found, 17, 5))
    grown = [np.count_nonzero(mask.any(axis)) - np.count_nonzero(found.any(axis)) for axis in (0, 1)]
    assert grown == [8, 2]  # the object touches the photo's left and upper edge


@pytest.mark.parametrize("pipeline", [segment.run, smart_remove.run])
def test_a_model_that_is_not_there(pipeline: Any) -> None:
    with pytest.raises(BadInput) as caught:
        run(pipeline(FakeNetworks(), image=encode(noise(64, 64)), points=POINTS, model="sam3"))
    assert str(caught.value) == "model must be 'sam' or 'sam2'."


@pytest.mark.parametrize("pipeline", [segment.run, smart_remove.run])
@pytest.mark.parametrize("absent", [("sam2_encoder", "sam2_decoder"), ("sam2_decoder",)])
def test_a_model_that_is_not_built(pipeline: Any, absent: tuple[str, ...]) -> None:
    networks, image = FakeNetworks(not_built=absent), encode(noise(64, 64))
    with pytest.raises(BadInput) as caught:
        run(pipeline(networks, image=image, points=POINTS, model="sam2"))
    assert str(caught.value) == (
        "sam2 is not available on this server; ask for sam, or have its operator build it "
        "(nexus-export build sam2 --checkpoint ...)."
    )
    networks.calls.clear()
    run(pipeline(networks, image=image, points=POINTS, model=""))
    assert [call.network for call in networks.calls][:2] == ["sam_encoder", "sam_decoder"]
