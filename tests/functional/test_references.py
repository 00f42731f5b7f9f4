"""Images by reference on a real Triton: every operation takes them, and sends NOT_FOUND for those it does not hold."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc
from nexus_client import Client, EncodedImage, GenerativeFill, Tensors
from nexus_client._grpc import GrpcTransport
from nexus_client._wire import to_wire
from nexus_server.local import LocalServer

from tests.functional.support.deployment import executions
from tests.functional.support.photos import unique_photo

MASK = np.zeros((512, 512), bool)
MASK[200:240, 300:360] = True
OPERATIONS: dict[str, dict[str, Any]] = {
    "segment": {"points": [(224, 100)]},
    "cleanup": {"mask": MASK},
    "smart_remove": {"points": [(224, 100)]},
    "remove_background": {},
    "generative_fill": {"mask": MASK, "prompt": "a bench", "steps": 2, "strength": 1.0},
    "generative_fill_stream": {"mask": MASK, "prompt": "a bench", "steps": 2, "strength": 1.0},
}


class Metered(GrpcTransport):
    """Notes the size of each request in bytes."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.bytes: list[int] = []

    def infer(self, model: str, inputs: Tensors, timeout: float) -> Tensors:
        self.bytes.append(to_wire(model, inputs).ByteSize())
        return super().infer(model, inputs, timeout)

    def stream(self, model: str, inputs: Tensors, timeout: float) -> Generator[Tensors, None, None]:
        self.bytes.append(to_wire(model, inputs).ByteSize())
        return super().stream(model, inputs, timeout)


def pixels(result: Any) -> bytes:
    """The picture that an operation answers with."""
    if isinstance(result, Generator):
        (result,) = (event for event in result if isinstance(event, GenerativeFill))
    picture = getattr(result, "image", getattr(result, "mask", result))
    return np.asarray(picture).tobytes()


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_reference_gives_the_same_and_costs_no_bytes(server: LocalServer, name: str) -> None:
    """The first call believes that the server has the photo: it is refused, and the photo goes in a second request."""
    meter = Metered(server.url)
    with Client(server.url, timeout=300, transport=meter) as client:
        data = unique_photo(4000 + list(OPERATIONS).index(name))
        photo = EncodedImage(data)
        photo.sent_to((server.url, name.removesuffix("_stream")))
        first, again = (pixels(getattr(client, name)(photo, **OPERATIONS[name])) for _ in range(2))
        whole = pixels(getattr(client, name)(data, **OPERATIONS[name]))
    assert first == again == whole
    refused, sent, referred, plain = meter.bytes
    assert refused == referred < 4096  # a few arguments, and a mask of 0.4 kB
    assert sent == plain > len(data)


def test_a_further_click_runs_no_encoder_even_without_the_response_cache(
    client: Client, triton: grpc.InferenceServerClient
) -> None:
    """Neither an execution nor a cache hit: the pipeline itself has the embedding."""
    photo = client.open(unique_photo(4100))
    client.segment(photo, [(200, 200)])
    before = executions(triton, "sam_encoder"), _cache_hits(triton)
    client.segment(photo, [(300, 300)])
    client.segment(photo.encoded, [(310, 300)])
    assert (executions(triton, "sam_encoder"), _cache_hits(triton)) == before


def test_a_digest_that_no_one_has_sent_is_not_found(triton: grpc.InferenceServerClient) -> None:
    reference = b"sha256:" + hashlib.sha256(b"never sent").hexdigest().encode()
    tensor = grpc.InferInput("image", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[reference]], np.object_))
    with pytest.raises(grpc.InferenceServerException) as caught:
        triton.infer("remove_background", [tensor])
    assert caught.value.status() == "StatusCode.NOT_FOUND"
    assert caught.value.message() == f"image {reference.decode()} is not held here; send its bytes."


def _cache_hits(triton: grpc.InferenceServerClient) -> int:
    return int(triton.get_inference_statistics("sam_encoder").model_stats[0].inference_stats.cache_hit.count)
