"""The tensors of every operation: the exact names, shapes and types; and the results read from the answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nexus_client import Client, ServerError

from tests.client.support.fakes import MockTransport

IMAGE = np.zeros((30, 40, 3), np.uint8)
MASK = np.zeros((30, 40), bool)

SEGMENT = {"image", "points", "labels", "box", "min_area", "model"}
SMART_REMOVE = {"image", "points", "labels", "box", "rough_mask", "dilate", "model"}


@pytest.fixture
def client(mock: MockTransport) -> Client:
    return Client(transport=mock, retries=None)


def check(tensor: Any, dtype: Any, expected: Any) -> None:
    """Compare type, shape and values with `expected`, given without the batch axis."""
    assert tensor.dtype == dtype
    wanted = np.array(expected, dtype)[np.newaxis]
    assert tensor.shape == wanted.shape
    assert tensor.tolist() == wanted.tolist()


def test_segment_sends_every_input(client: Client, mock: MockTransport) -> None:
    client.segment(b"photo", points=[(1, 2.5), (3, 4)], labels=[1, 0], box=(0, 1, 20, 10), min_area=0)
    model, inputs, _ = mock.calls[0]
    assert model == "segment"
    assert set(inputs) == SEGMENT
    check(inputs["image"], np.object_, [b"photo"])
    check(inputs["points"], np.float32, [[1, 2.5], [3, 4]])
    check(inputs["labels"], np.int32, [1, 0])
    check(inputs["box"], np.float32, [0, 1, 20, 10])
    check(inputs["min_area"], np.int32, [0])
    check(inputs["model"], np.object_, [b""])


def test_segment_sends_absent_arguments_as_empty_tensors(client: Client, mock: MockTransport) -> None:
    client.segment(b"photo", box=[0, 1, 20, 10])
    client.segment(b"photo", points=np.array([[5, 6]]))
    boxed, clicked = (call.inputs for call in mock.calls)
    assert set(boxed) == set(clicked) == SEGMENT
    assert boxed["points"].shape == (1, 0, 2)
    assert boxed["labels"].shape == (1, 0)
    assert clicked["box"].shape == (1, 0)
    check(clicked["labels"], np.int32, [1])
    check(clicked["min_area"], np.int32, [-1])
    assert [boxed[name].dtype for name in ("points", "labels", "box")] == [np.float32, np.int32, np.float32]


@pytest.mark.parametrize("points", [[], (), np.zeros((0, 2))])
def test_no_points_have_two_columns(client: Client, mock: MockTransport, points: Any) -> None:
    client.segment(b"photo", points=points, labels=[], box=(0, 1, 20, 10))
    assert mock.calls[0].inputs["points"].shape == (1, 0, 2)


def test_cleanup_sends_every_input(client: Client, mock: MockTransport) -> None:
    client.cleanup(b"photo", b"mask")
    client.cleanup(b"photo", b"mask", dilate=0)
    model, inputs, _ = mock.calls[0]
    assert model == "cleanup"
    assert set(inputs) == {"image", "mask", "dilate"}
    check(inputs["image"], np.object_, [b"photo"])
    check(inputs["mask"], np.object_, [b"mask"])
    check(inputs["dilate"], np.int32, [3])
    check(mock.calls[1].inputs["dilate"], np.int32, [0])


def test_smart_remove_sends_every_input(client: Client, mock: MockTransport) -> None:
    client.smart_remove(b"photo", points=[(1, 2)])
    client.smart_remove(b"photo", rough_mask=b"rough", dilate=7, model="sam2")
    clicked, painted = mock.calls
    assert clicked.model == painted.model == "smart_remove"
    assert set(clicked.inputs) == set(painted.inputs) == SMART_REMOVE
    check(clicked.inputs["points"], np.float32, [[1, 2]])
    check(clicked.inputs["rough_mask"], np.object_, [b""])
    check(clicked.inputs["dilate"], np.int32, [3])
    check(painted.inputs["rough_mask"], np.object_, [b"rough"])
    check(painted.inputs["dilate"], np.int32, [7])
    check(clicked.inputs["model"], np.object_, [b""])
    check(painted.inputs["model"], np.object_, [b"sam2"])
    assert painted.inputs["points"].shape == (1, 0, 2)


def test_remove_background_sends_every_input(client: Client, mock: MockTransport) -> None:
    client.remove_background(b"photo")
    client.remove_background(b"photo", background="rosé", model="isnet")
    model, inputs, _ = mock.calls[0]
    assert model == "remove_background"
    assert set(inputs) == {"image", "background", "model"}
    check(inputs["background"], np.object_, [b"white"])
    check(inputs["model"], np.object_, [b""])
    check(mock.calls[1].inputs["model"], np.object_, [b"isnet"])
    check(mock.calls[1].inputs["background"], np.object_, ["rosé".encode()])


def test_answers_are_decoded(client: Client) -> None:
    found = client.segment(IMAGE, points=[(1, 2)])
    assert found.mask.dtype == np.bool_
    assert found.mask.shape == (30, 40)
    assert found.mask[:, :20].all()
    assert not found.mask[:, 20:].any()
    assert found.score == 0.875
    removal = client.smart_remove(IMAGE, points=[(1, 2)])
    assert (removal.image.mode, removal.image.size, removal.score) == ("RGB", (40, 30), 0.875)
    np.testing.assert_array_equal(removal.mask, found.mask)
    assert client.cleanup(IMAGE, MASK).getpixel((0, 0)) == (10, 20, 30)
    assert client.remove_background(IMAGE).mode == "RGB"
    assert client.remove_background(IMAGE, background="transparent").mode == "RGBA"


@pytest.mark.parametrize("outputs", [{"mask": np.array([[b"x"]], np.object_)}, {"score": np.zeros((1, 0))}])
def test_an_answer_without_its_outputs_is_a_server_error(
    client: Client, mock: MockTransport, outputs: Any
) -> None:
    mock.outputs = outputs
    with pytest.raises(ServerError):
        client.segment(IMAGE, points=[(1, 2)])
