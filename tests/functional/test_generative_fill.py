"""One fill at a time on the real server: its responses over gRPC and HTTP."""

from __future__ import annotations

import base64
import io
import json
import urllib.error
import urllib.request
from contextlib import closing
from queue import Queue
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.grpc as grpc
from nexus_client import Client
from nexus_server.local import LocalServer
from PIL import Image

from tests.functional.support.fills import PHOTO, PROMPT, SIZE, hole, tensors

STEPS = np.int32(4)


def png(pixels: npt.NDArray[Any]) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG", compress_level=1)
    return data.getvalue()


MASK = hole(*SIZE)
GOOD = {
    "image": PHOTO.read_bytes(),
    "mask": png(MASK),
    "prompt": PROMPT.encode(),
    "steps": STEPS,
    "strength": np.float32(1),
}


def responses(server: LocalServer, **inputs: Any) -> list[grpc.InferResult]:
    """Every response to a raw request, flagged or not."""
    answers: Queue[Any] = Queue()
    with closing(grpc.InferenceServerClient(server.url)) as triton:
        triton.start_stream(lambda result, error: answers.put((result, error)))
        triton.async_stream_infer("generative_fill", tensors(**inputs), enable_empty_final_response=True)
        triton.stop_stream()  # waits for all responses
    found = []
    while not answers.empty():
        result, error = answers.get()
        assert error is None, error
        found.append(result)
    return found


def is_last(response: grpc.InferResult) -> bool:
    return bool(response.get_response().parameters["triton_final_response"].bool_param)


def test_without_progress_there_is_exactly_one_response(server: LocalServer) -> None:
    (only,) = responses(server, **GOOD)
    assert is_last(only)
    assert only.as_numpy("image").shape == (1, 1)
    assert Image.open(io.BytesIO(only.as_numpy("image").item())).size == SIZE
    assert only.as_numpy("step") is None


def test_progress_and_previews_come_in_between(server: LocalServer) -> None:
    *steps, last = responses(server, **GOOD, preview_every=np.int32(2))
    assert [is_last(response) for response in [*steps, last]] == [False] * 4 + [True]
    assert [response.as_numpy("step").item() for response in steps] == [1, 2, 3, 4]
    assert [response.as_numpy("preview") is not None for response in steps] == [False, True, False, True]
    for response in steps[1::2]:
        preview = Image.open(io.BytesIO(response.as_numpy("preview").item()))
        # the longest side of a preview is 512
        assert (preview.format, preview.size) == ("JPEG", (512, 341))


def test_the_same_seed_gives_the_same_picture(client: Client) -> None:
    def fill(seed: int) -> bytes:
        return client.generative_fill(PHOTO, MASK, PROMPT, steps=2, strength=1.0, seed=seed).image.tobytes()

    assert fill(1) == fill(1) != fill(2)


def url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def generate(server: LocalServer, **inputs: Any) -> Any:
    request = urllib.request.Request(
        f"{server.http_url}/v2/models/generative_fill/generate",
        json.dumps(inputs).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def test_http_takes_and_gives_data_urls(server: LocalServer, client: Client) -> None:
    """One JSON answer with the same picture as over gRPC."""
    answer = generate(
        server,
        image=url(PHOTO.read_bytes(), "image/jpeg"),
        mask=url(png(MASK)),
        prompt=PROMPT,
        steps=2,
        strength=1.0,
        seed=2**40,
    )
    head, _, body = answer["image"].partition(",")
    assert head == "data:image/png;base64"
    fill = client.generative_fill(PHOTO, MASK, PROMPT, steps=2, strength=1.0, seed=2**40)
    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(body))))
    np.testing.assert_array_equal(found, np.asarray(fill.image))
    assert (answer["seed"], answer["model"]) == (2**40, "sdxl")
    assert set(json.loads(answer["timings"])) == set(fill.timings)
    assert tuple(json.loads(answer["notices"])) == fill.notices


def test_http_refuses_in_a_sentence(server: LocalServer) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        generate(server, image="data:image/png,raw", mask=url(png(MASK)), prompt=PROMPT)
    assert caught.value.code == 400
    assert json.load(caught.value) == {
        "error": "the image is a data URL but not in base64; encode the file in base64."
    }
