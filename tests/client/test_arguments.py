"""Mistakes in plain arguments: each is one sentence, raised before any traffic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nexus_client import Client, InvalidInput

from tests.client.support.fakes import MockTransport

IMAGE = np.zeros((30, 40, 3), np.uint8)
MASK = np.zeros((30, 40), bool)


@pytest.fixture
def client(mock: MockTransport) -> Client:
    return Client(transport=mock, retries=None)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"points": (1, 2)}, r"points must be \(x, y\) pairs such as \[\(320, 240\)\], not of shape \(2,\)"),
        ({"points": [(1, 2, 3)]}, r"not of shape \(1, 3\)"),
        ({"points": [(1, 2), (3,)]}, "points must be numbers"),
        ({"points": [("1", "2")]}, "points must be numbers"),
        ({"points": [(1, 2)], "labels": [1, 0]}, "labels must be one 1 or 0 for each of the 1 points"),
        ({"points": [(1, 2)], "labels": [2]}, "labels must be 1"),
        ({"points": [(1, 2)], "labels": [0.5]}, "labels must be 1"),
        ({"points": [(1, 2)], "labels": [[1], [1, 0]]}, "labels must be 1"),
        ({"labels": [1]}, "labels must be one 1 or 0 for each of the 0 points"),
        ({"box": (1, 2, 3)}, r"box must be four numbers x0, y0, x1, y1, not of shape \(3,\)"),
        ({"box": ()}, "box must be four numbers"),
        ({"box": "1,2,3,4"}, "box must be numbers"),
        ({"min_area": -1}, "min_area must be a whole number of pixels from 0 up, not -1"),
        ({"min_area": 2**31}, "min_area must be"),
        ({"min_area": 1.5}, "min_area must be"),
        ({"timeout": 0}, "timeout must be a positive number of seconds, not 0"),
        ({"timeout": float("inf")}, "timeout must be"),
    ],
)
def test_mistakes_are_found_before_any_traffic(
    client: Client, mock: MockTransport, arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        client.segment(IMAGE, **arguments)
    assert mock.calls == []


def test_mistakes_in_the_other_operations(client: Client, mock: MockTransport) -> None:
    with pytest.raises(InvalidInput, match="dilate must be a whole number"):
        client.cleanup(IMAGE, MASK, dilate=-1)
    with pytest.raises(InvalidInput, match="mask must be a path"):
        client.cleanup(IMAGE, None)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="rough_mask is empty"):
        client.smart_remove(IMAGE, rough_mask=b"")
    with pytest.raises(InvalidInput, match="background must be a string"):
        client.remove_background(IMAGE, background=(255, 255, 255))  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="model must be a string, the name of a model, not int"):
        client.remove_background(IMAGE, model=7)  # type: ignore[arg-type]
    assert mock.calls == []
