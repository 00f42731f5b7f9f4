"""Data URLs to files and back."""

from __future__ import annotations

import base64
import tracemalloc

import pytest
from nexus_ensembles.errors import BadInput
from nexus_ensembles.imaging.decode import MAX_BYTES
from nexus_ensembles.triton import data_urls

FILE = bytes(range(256))


@pytest.mark.parametrize(
    "head", [b"data:image/png;base64,", b"DATA:;BASE64,", b"data:image/webp;x=y;base64,"]
)
def test_a_file_comes_back(head: bytes) -> None:
    url = head + base64.b64encode(FILE)
    assert data_urls.is_data_url(url)
    assert data_urls.decode(url, "image") == FILE


def test_what_is_encoded_can_be_decoded() -> None:
    url = data_urls.encode(FILE, "image/png")
    assert url.startswith(b"data:image/png;base64,")
    assert data_urls.decode(url, "image") == FILE


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n", b"\xff\xd8\xff", b"RIFF", b"dat"])
def test_a_file_is_no_data_url(data: bytes) -> None:
    assert not data_urls.is_data_url(data)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        (b"data:", "the mask is a data URL but not in base64; encode the file in base64."),
        (b"data:text/plain,cat", "the mask is a data URL but not in base64; encode the file in base64."),
        (
            b"data:" + b"x" * 300 + b";base64,AAAA",
            "the mask is a data URL but not in base64; encode the file in base64.",
        ),
        (b"data:;base64,AAA", "the mask is a data URL whose base64 is damaged."),
        (b"data:;base64,AA A", "the mask is a data URL whose base64 is damaged."),
        (b"data:;base64,\xff\xff\xff\xff", "the mask is a data URL whose base64 is damaged."),
    ],
)
def test_what_is_refused(url: bytes, sentence: str) -> None:
    with pytest.raises(BadInput) as caught:
        data_urls.decode(url, "mask")
    assert str(caught.value) == sentence


def test_too_much_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(BadInput, match=r"^the image has \d+ bytes; at most 67108864 are accepted\.$"):
        data_urls.decode(b"data:;base64," + b"!" * (MAX_BYTES // 3 * 4 + 5), "image")


def test_a_url_of_any_size_is_refused_without_a_copy() -> None:
    url = b"data:;base64," + b"!" * (MAX_BYTES // 3 * 4 + 1000)
    tracemalloc.start()
    with pytest.raises(BadInput, match=r"^the image has \d+ bytes; at most 67108864 are accepted\.$"):
        data_urls.decode(url, "image")
    assert tracemalloc.get_traced_memory()[1] < 2**20  # of 89 MB
    tracemalloc.stop()
