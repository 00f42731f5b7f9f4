"""The calls of segment's networks, the mask that it serves, and the requests that it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nexus_ensembles import segment
from nexus_ensembles.errors import BadInput
from nexus_ensembles.sam import MODELS, ResizeLongestSide

from tests.ensembles.support.fakes import FakeNetworks, decode, encode, noise, run

SAM = MODELS.get("sam")
SIZE = (200, 100)
NAN = float("nan")


def points(*values: tuple[float, float]) -> Any:
    return np.array(values, np.float32).reshape(-1, 2)


def labels(*values: int) -> Any:
    return np.array(values, np.int32)


def box(*values: float) -> Any:
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ((None, None, None), "nothing is pointed at: give at least one positive point or a box."),
        ((points(), labels(), box()), "nothing is pointed at: give at least one positive point or a box."),
        (
            (points((1, 1), (2, 2)), labels(0, 0), None),
            "nothing is pointed at: give at least one positive point or a box.",
        ),
        ((np.zeros(2), None, None), "points must have the shape [N, 2]: one x and one y for each click."),
        (
            (np.zeros((1, 3)), None, None),
            "points must have the shape [N, 2]: one x and one y for each click.",
        ),
        ((np.ones((65, 2)), None, None), "there are 65 points; at most 64 are accepted."),
        (
            (points((1, 1)), labels(1, 1), None),
            "there are 2 labels for 1 points; give one label a point.",
        ),
        ((None, labels(1), None), "there are 1 labels for 0 points; give one label a point."),
        (
            (points((1, 1)), labels(2), None),
            "labels must be 1 (part of the object) or 0 (not part of it).",
        ),
        (
            (points((1, 1)), labels(-1), None),
            "labels must be 1 (part of the object) or 0 (not part of it).",
        ),
        (
            (points((1, 1), (201, 5)), None, None),
            "point 2 (201, 5) lies outside the image of 200 x 100 pixels.",
        ),
        (
            (points((1, 100.5)), None, None),
            "point 1 (1, 100.5) lies outside the image of 200 x 100 pixels.",
        ),
        ((points((-1, 5)), None, None), "point 1 (-1, 5) lies outside the image of 200 x 100 pixels."),
        ((points((NAN, 5)), None, None), "point 1 (nan, 5) lies outside the image of 200 x 100 pixels."),
        (
            (points((5, float("inf"))), None, None),
            "point 1 (5, inf) lies outside the image of 200 x 100 pixels.",
        ),
        ((None, None, box(1, 2, 3)), "box must have 4 values: x0, y0, x1, y1."),
        ((None, None, box(1, 2, 3, 4, 5)), "box must have 4 values: x0, y0, x1, y1."),
        (
            (None, None, box(-1, 2, 3, 4)),
            "the box's first corner (-1, 2) lies outside the image of 200 x 100 pixels.",
        ),
        (
            (None, None, box(1, 2, 3, 101)),
            "the box's second corner (3, 101) lies outside the image of 200 x 100 pixels.",
        ),
        (
            (None, None, box(1, NAN, 3, 4)),
            "the box's first corner (1, nan) lies outside the image of 200 x 100 pixels.",
        ),
        (
            (None, None, box(3, 2, 1, 4)),
            "box must run from its top left to its bottom right corner: x0 < x1 and y0 < y1.",
        ),
        (
            (None, None, box(1, 4, 3, 4)),
            "box must run from its top left to its bottom right corner: x0 < x1 and y0 < y1.",
        ),
    ],
)
def test_prompts_that_mean_nothing(inputs: tuple[Any, Any, Any], sentence: str) -> None:
    with pytest.raises(BadInput) as caught:
        segment.Prompt.parse(*inputs, SIZE)
    assert str(caught.value) == sentence


def test_labels_are_positive_unless_given() -> None:
    for given in (None, labels()):
        prompt = segment.Prompt.parse(points((1, 1), (2, 2)), given, None, SIZE)
        assert prompt.labels.dtype == np.float32
        assert prompt.labels.tolist() == [1, 1]


def test_the_far_edges_and_64_points_are_accepted() -> None:
    assert len(segment.Prompt.parse(points(*[SIZE] * 64), None, box(0, 0, *SIZE), SIZE).points) == 64


@pytest.mark.parametrize(
    ("clicks", "corners", "ambiguous"),
    [(1, None, True), (2, None, False), (0, (1, 1, 9, 9), False), (1, (1, 1, 9, 9), False)],
)
def test_only_one_click_is_ambiguous(clicks: int, corners: Any, ambiguous: bool) -> None:
    given = None if corners is None else box(*corners)
    prompt = segment.Prompt.parse(points(*[(5, 5)] * clicks), None, given, SIZE)
    assert prompt.is_ambiguous is ambiguous


def test_tokens_are_clicks_then_not_a_point_then_filler() -> None:
    prompt = segment.Prompt.parse(points((100, 50), (200, 100)), labels(1, 0), None, SIZE)
    tokens = prompt.tokens(SAM, ResizeLongestSide(*SIZE))
    assert {array.dtype for array in tokens.values()} == {np.dtype(np.float32)}
    assert tokens["labels"].tolist() == [1, 0, -1, -2, -2, -2, -2, -2]
    assert tokens["points"].tolist() == [[512, 256], [1024, 512], *[[0, 0]] * 6]


def test_tokens_of_a_box_are_its_corners_after_the_clicks() -> None:
    prompt = segment.Prompt.parse(points((100, 50)), None, box(50, 25, 150, 75), SIZE)
    tokens = prompt.tokens(SAM, ResizeLongestSide(*SIZE))
    assert tokens["labels"].tolist() == [1, 2, 3, -2, -2, -2, -2, -2]
    assert tokens["points"][:3].tolist() == [[512, 256], [256, 128], [768, 384]]


@pytest.mark.parametrize(("clicks", "length"), [(1, 8), (7, 8), (8, 16), (15, 16), (64, 72)])
def test_tokens_fill_up_to_a_multiple_of_eight(clicks: int, length: int) -> None:
    prompt = segment.Prompt.parse(points(*[(5, 5)] * clicks), None, None, SIZE)
    tokens = prompt.tokens(SAM, ResizeLongestSide(*SIZE))
    assert tokens["labels"].shape == (length,)
    assert tokens["points"].shape == (length, 2)


def test_the_networks_get_the_shapes_and_types_of_their_configs() -> None:
    networks = FakeNetworks()
    run(segment.run(networks, image=encode(noise(100, 200)), points=points((9, 9))))
    assert [call.network for call in networks.calls] == ["sam_encoder", "sam_decoder"]
    described = [
        {name: (array.shape, array.dtype.name) for name, array in call.inputs.items()}
        for call in networks.calls
    ]
    assert described == [
        {"image": ((1024, 1024, 3), "uint8")},
        {
            "embedding": ((256, 64, 64), "float32"),
            "points": ((8, 2), "float32"),
            "labels": ((8,), "float32"),
            "mask_input": ((1, 256, 256), "float32"),
            "has_mask": ((1,), "float32"),
        },
    ]
    (decoder,) = networks.of("sam_decoder")
    (encoder,) = networks.of("sam_encoder")
    assert (decoder["embedding"] == encoder["image"][0, 0, 0]).all()
    assert not decoder["mask_input"].any()
    assert decoder["has_mask"].tolist() == [0]


@pytest.mark.parametrize(
    ("prompt", "token"),
    [
        ({"points": points((9, 9))}, 2),  # the best of 1, 2 and 3, although 0 has the best score of all
        ({"points": points((9, 9), (8, 8))}, 0),
        ({"points": points((9, 9)), "box": box(1, 1, 50, 50)}, 0),
        ({"box": box(1, 1, 50, 50)}, 0),
    ],
)
def test_one_click_takes_the_best_of_three_masks_and_others_the_single_one(prompt: Any, token: int) -> None:
    networks = FakeNetworks()
    outputs = run(segment.run(networks, image=encode(noise(1024, 1024)), **prompt))
    assert outputs["score"] == pytest.approx(networks.scores[token])
    mask = decode(outputs["mask"])
    assert mask.shape == (1024, 1024)
    assert mask.dtype == np.uint8
    side = 4 * (20 + 20 * token)
    # bilinear between 5 and -5: the edge lies in the middle between two cells, which is where they meet
    assert mask[side // 2].tolist() == [255] * side + [0] * (1024 - side)


def test_the_mask_has_the_photo_s_size() -> None:
    outputs = run(segment.run(FakeNetworks(), image=encode(noise(300, 451)), box=box(1, 1, 50, 50)))
    assert decode(outputs["mask"]).shape == (300, 451)


class Specks(FakeNetworks):
    """A decoder whose single mask has one large square and one speck of 4 x 4 cells.

    These are 256 pixels of the square, less the corners that the interpolation rounds off.
    """

    def _sam_decoder(self, **_: Any) -> dict[str, Any]:
        masks = np.full((4, 256, 256), -5, np.float32)
        masks[0, :100, :100] = 5
        masks[0, 200:204, 200:204] = 5
        return {"masks": masks, "scores": np.array(self.scores, np.float32)}


@pytest.mark.parametrize(
    ("area", "kept"), [(-1, True), (0, True), (200, True), (257, False), (2**31 - 1, False)]
)
def test_specks_are_dropped_below_the_area(area: int, kept: bool) -> None:
    outputs = run(
        segment.run(Specks(), image=encode(noise(1024, 1024)), box=box(1, 1, 50, 50), min_area=area)
    )
    mask = decode(outputs["mask"])
    assert mask[808, 808] == (255 if kept else 0)
    assert mask[200, 200] == 255


def test_minus_one_means_100_pixels() -> None:
    assert segment.MIN_AREA == 100


def test_a_bad_prompt_reaches_no_network() -> None:
    networks = FakeNetworks()
    with pytest.raises(BadInput):
        run(segment.run(networks, image=encode(noise(9, 9)), points=points((10, 1))))
    assert networks.calls == []
