"""Generative fill over the transport in memory: its tensors, its result, and the order of events."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nexus_client import (
    Client,
    FillProgress,
    GenerativeFill,
    InvalidInput,
    ServerError,
    Unavailable,
)

from tests.client.support.fakes import NOTICES, TIMINGS, Fill, MockTransport

IMAGE = np.zeros((30, 40, 3), np.uint8)
MASK = np.zeros((30, 40), bool)
SETTINGS: dict[str, Any] = {
    "negative_prompt": "rosé",
    "steps": 3,
    "guidance_scale": 5.5,
    "strength": 0.5,
    "seed": 2**40,
    "scheduler": "ddim",
}


def sent(mock: MockTransport) -> dict[str, tuple[str, Any]]:
    """The last call's tensors: dtype and the one value; each has the shape [1, 1]."""
    inputs = mock.calls[-1].inputs
    assert all(array.shape == (1, 1) for array in inputs.values())
    return {name: (str(array.dtype), array.item()) for name, array in inputs.items()}


def test_absent_settings_are_not_sent(mock: MockTransport) -> None:
    Client(transport=mock).generative_fill(b"photo", b"mask", "une chaise dorée")
    assert mock.calls[0].model == "generative_fill"
    assert sent(mock) == {
        "image": ("object", b"photo"),
        "mask": ("object", b"mask"),
        "prompt": ("object", "une chaise dorée".encode()),
    }


def test_every_setting_is_sent(mock: MockTransport) -> None:
    Client(transport=mock).generative_fill(b"photo", b"mask", "a bench", **SETTINGS)
    expected = {
        "image": ("object", b"photo"),
        "mask": ("object", b"mask"),
        "prompt": ("object", b"a bench"),
        "negative_prompt": ("object", "rosé".encode()),
        "steps": ("int32", 3),
        "guidance_scale": ("float32", 5.5),
        "strength": ("float32", 0.5),
        "seed": ("int64", 2**40),
        "scheduler": ("object", b"ddim"),
    }
    assert sent(mock) == expected
    list(Client(transport=mock).generative_fill_stream(b"photo", b"mask", "a bench", **SETTINGS))
    assert sent(mock) == {**expected, "progress": ("bool", True), "preview_every": ("int32", 0)}


def test_an_unknown_setting_is_a_type_error(fill: Fill, mock: MockTransport) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'step'"):
        fill(mock, step=3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'step'"):
        Client(transport=mock).generative_fill(IMAGE, MASK, "a bench", step=3)  # type: ignore[call-arg]
    assert mock.calls == []


def test_the_result(mock: MockTransport) -> None:
    fill = Client(transport=mock).generative_fill(IMAGE, MASK, "a bench", seed=7)
    assert (fill.image.mode, fill.image.size, fill.image.getpixel((0, 0))) == ("RGB", (40, 30), (10, 20, 30))
    assert (fill.seed, fill.model, fill.timings, fill.notices) == (7, "sdxl", TIMINGS, tuple(NOTICES))
    assert mock.cancelled == []


def test_progress_comes_in_order_and_the_result_last(fill: Fill, mock: MockTransport) -> None:
    *progress, result = fill(mock, steps=5)
    assert all(isinstance(event, FillProgress) for event in progress)
    assert [(e.step, e.total, e.preview) for e in progress if isinstance(e, FillProgress)] == [
        (step, 5, None) for step in range(1, 6)
    ]
    assert isinstance(result, GenerativeFill)
    assert mock.cancelled == []


def test_previews_come_with_the_steps_that_were_asked_for(fill: Fill, mock: MockTransport) -> None:
    events = [e for e in fill(mock, steps=5, preview_every=2) if isinstance(e, FillProgress)]
    assert [e.step for e in events if e.preview is not None] == [2, 4]
    preview = events[1].preview
    assert preview is not None
    assert (preview.size, preview.getpixel((0, 0))) == ((40, 30), (255, 0, 0))


def test_a_call_without_progress_is_retried_whole(mock: MockTransport) -> None:
    mock.faults = [Unavailable("busy")]
    assert Client(transport=mock).generative_fill(IMAGE, MASK, "a bench").model == "sdxl"
    assert len(mock.calls) == 2


def test_the_budget_is_the_call_s_or_the_client_s_or_five_minutes(mock: MockTransport) -> None:
    Client(transport=mock).generative_fill(IMAGE, MASK, "a bench")
    list(Client(transport=mock).generative_fill_stream(IMAGE, MASK, "a bench"))
    Client(transport=mock, timeout=7).generative_fill(IMAGE, MASK, "a bench")
    Client(transport=mock, timeout=7).generative_fill(IMAGE, MASK, "a bench", timeout=3)
    # Encoding two images of 30 x 40 takes from the budget; a tenth of a second is a hundred times what it needs.
    assert [call.timeout for call in mock.calls] == pytest.approx([300, 300, 7, 3], abs=0.1)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"prompt": None}, "prompt must be a string, not NoneType"),
        ({"negative_prompt": 3}, "negative_prompt must be a string, not int"),
        ({"scheduler": b"ddim"}, "scheduler must be a string, not bytes"),
        ({"steps": 0}, "steps must be a whole number from 1 to 2147483647, not 0"),
        ({"steps": 2.0}, "steps must be a whole number"),
        ({"steps": True}, "steps must be a whole number"),
        ({"seed": -1}, "seed must be a whole number from 0 to 9223372036854775807, not -1"),
        ({"seed": 2**63}, "seed must be a whole number"),
        ({"guidance_scale": "7"}, "guidance_scale must be a finite number, not '7'"),
        ({"strength": float("nan")}, "strength must be a finite number, not nan"),
        ({"preview_every": -1}, "preview_every must be a whole number from 0"),
        ({"mask": b""}, "mask is empty"),
        ({"timeout": 0}, "timeout must be a positive number of seconds"),
    ],
)
def test_mistakes_are_found_before_any_traffic(
    mock: MockTransport, arguments: dict[str, Any], sentence: str
) -> None:
    given: dict[str, Any] = {"image": IMAGE, "mask": MASK, "prompt": "a bench", **arguments}
    with pytest.raises(InvalidInput, match=sentence):
        list(Client(transport=mock).generative_fill_stream(**given))
    assert mock.calls == []


def test_an_answer_that_is_no_fill_is_a_server_error(
    mock: MockTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {"mask": np.array([[b"of segment"]], np.object_)}
    monkeypatch.setattr("tests.client.support.fakes.fill_answers", lambda _: iter([other]))
    with pytest.raises(ServerError, match="no single 'step'"):
        list(Client(transport=mock).generative_fill_stream(IMAGE, MASK, "a bench"))
    with pytest.raises(ServerError, match="no single 'image'"):
        Client(transport=mock).generative_fill(IMAGE, MASK, "a bench")
