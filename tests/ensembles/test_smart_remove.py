"""How smart_remove hands segment's mask to cleanup, and how it takes a rough mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nexus_ensembles import segment, smart_remove
from nexus_ensembles.errors import BadInput
from nexus_ensembles.imaging import geometry

from tests.ensembles.support.fakes import FILL, FakeNetworks, decode, encode, noise, run

BOX = np.array([10, 10, 100, 100], np.float32)


def painted(height: int, width: int) -> Any:
    """A rough mask, BOOL: rows 100 to 199 and columns 50 to 299."""
    mask = np.zeros((height, width), np.bool_)
    mask[100:200, 50:300] = True
    return mask


@pytest.mark.parametrize(
    ("size", "kernel"), [((512, 512), 5), ((300, 256), 5), ((600, 1000), 9), ((100, 200), 3)]
)
def test_the_mask_is_that_of_segment_grown_by_a_cell(size: tuple[int, int], kernel: int) -> None:
    image = encode(noise(*size))
    found = decode(run(segment.run(FakeNetworks(), image=image, box=BOX))["mask"]) > 0
    outputs = run(smart_remove.run(FakeNetworks(), image=image, box=BOX))
    np.testing.assert_array_equal(decode(outputs["mask"]) > 0, geometry.dilate(found, kernel))


def test_the_image_is_filled_under_the_mask_alone() -> None:
    networks, pixels = FakeNetworks(), noise(300, 400)
    outputs = run(smart_remove.run(networks, image=encode(pixels), box=BOX, dilate=5))
    assert [call.network for call in networks.calls] == ["sam_encoder", "sam_decoder", "lama"]
    mask, result = decode(outputs["mask"]) > 0, decode(outputs["image"])
    assert (result[mask] == FILL).all()
    outside = ~geometry.dilate(mask, 5)
    np.testing.assert_array_equal(result[outside], pixels[outside])
    assert outputs["score"] == pytest.approx(networks.scores[0])


def test_a_rough_mask_is_a_box_and_a_mask_prompt() -> None:
    networks = FakeNetworks()
    run(smart_remove.run(networks, image=encode(noise(512, 1024)), rough_mask=encode(painted(512, 1024))))
    (decoder,) = networks.of("sam_decoder")
    assert decoder["labels"][:2].tolist() == [2, 3]
    assert decoder["points"][:2].tolist() == [[50, 100], [300, 200]]
    assert decoder["has_mask"].tolist() == [1]
    logits = decoder["mask_input"]
    assert (logits.shape, logits.dtype.name) == ((1, 256, 256), "float32")
    # rows 100 to 199 and columns 50 to 299 in cells of 4 pixels; columns 12 and 74 are half painted, so undecided
    expected = np.full((256, 256), -6, np.float32)
    expected[25:50, 13:75] = 6
    expected[25:50, 12] = 0
    np.testing.assert_allclose(logits[0], expected, atol=1e-5)  # rounding of the averages


def test_a_given_box_counts_more_than_the_rough_mask_s() -> None:
    networks = FakeNetworks()
    image, rough = encode(noise(512, 1024)), encode(painted(512, 1024))
    run(smart_remove.run(networks, image=image, rough_mask=rough, box=BOX))
    assert networks.of("sam_decoder")[0]["points"][:2].tolist() == [[10, 10], [100, 100]]


def test_empty_inputs_are_none() -> None:
    networks = FakeNetworks()
    nothing = np.zeros(0, np.float32)
    image = encode(noise(512, 512))
    run(
        smart_remove.run(
            networks,
            image=image,
            points=np.array([[9, 9]], np.float32),
            labels=np.zeros(0, np.int32),
            box=nothing,
            rough_mask=b"",
        )
    )
    decoder = networks.of("sam_decoder")[0]
    assert decoder["labels"].tolist() == [1, -1, *[-2] * 6]
    assert decoder["has_mask"].tolist() == [0]


def test_alpha_is_kept() -> None:
    pixels = noise(300, 400, 4)
    outputs = run(smart_remove.run(FakeNetworks(), image=encode(pixels), box=BOX))
    outside = ~geometry.dilate(decode(outputs["mask"]) > 0, 3)
    np.testing.assert_array_equal(decode(outputs["image"])[outside], pixels[outside])


class Blind(FakeNetworks):
    """A decoder that finds nothing, or everything."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self._logit = logit

    def _sam_decoder(self, **_: Any) -> dict[str, Any]:
        return {"masks": np.full((4, 256, 256), self._logit, np.float32), "scores": np.ones(4, np.float32)}


@pytest.mark.parametrize(
    ("logit", "sentence"),
    [
        (-1, "no object was found there; click on its middle or draw a box around it."),
        (1, "the dilated mask covers the whole image, which leaves nothing to fill it from."),
    ],
)
def test_nothing_and_everything_found(logit: float, sentence: str) -> None:
    networks = Blind(logit)
    with pytest.raises(BadInput) as caught:
        run(smart_remove.run(networks, image=encode(noise(64, 64)), box=np.array([1, 1, 9, 9], np.float32)))
    assert str(caught.value) == sentence
    assert networks.of("lama") == []


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({}, "nothing is pointed at: give at least one positive point or a box."),
        (
            {"rough_mask": encode(np.zeros((64, 64), np.bool_))},
            "the rough mask selects nothing: it has no pixel brighter than half.",
        ),
        (
            {"rough_mask": encode(np.ones((64, 65), np.bool_))},
            "the rough mask is 65 x 64 pixels but the image is 64 x 64; they must be the same size.",
        ),
    ],
)
def test_requests_that_mean_nothing(inputs: Any, sentence: str) -> None:
    networks = FakeNetworks()
    with pytest.raises(BadInput) as caught:
        run(smart_remove.run(networks, image=encode(noise(64, 64)), **inputs))
    assert str(caught.value) == sentence
    assert networks.calls == []
