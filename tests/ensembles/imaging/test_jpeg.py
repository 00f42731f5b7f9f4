"""JPEGs that the walk over their segments refuses before they are decoded, and those that it must not refuse."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from nexus_ensembles.errors import BadInput
from nexus_ensembles.imaging import jpeg
from nexus_ensembles.imaging.decode import decode_photo
from PIL import Image

from tests.ensembles.support.fakes import encode, noise

SCAN = b"\xff\xda"
BASELINE, ARITHMETIC = b"\xff\xc0", b"\xff\xc9"


def with_scans(count: int, between: bytes = b"") -> bytes:
    """A progressive JPEG whose last scan is repeated, with something after each repetition."""
    *first, last = encode(noise(16, 16), "JPEG", progressive=True).split(SCAN)
    last = last.removesuffix(b"\xff\xd9") + between
    return SCAN.join([*first, *[last] * (count + 1 - len(first))]) + b"\xff\xd9"


def refused(data: bytes, sentence: str) -> None:
    with pytest.raises(BadInput) as caught:
        decode_photo(data)
    assert str(caught.value) == sentence


def test_a_hundred_scans_are_accepted_and_no_more() -> None:
    assert decode_photo(with_scans(100)).size == (16, 16)
    refused(with_scans(101), "the image is a JPEG of more than 100 scans; save it again.")


# Bytes that a decoder skips between two scans must not hide the scans behind it: fill bytes, a reserved marker in the
# place of data, a restart marker, a length too small to be one.
@pytest.mark.parametrize("between", [b"\xff" * 9, b"\xff\x02\xff\xff", b"\xff\xd0\xff\xff", b"\xff\xfe\0\0"])
def test_no_scan_is_hidden(between: bytes) -> None:
    with pytest.raises(BadInput, match="more than 100 scans"):
        decode_photo(with_scans(101, between))


def test_segments_are_limited_before_pillow_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: Any, **__: Any) -> None:
        raise AssertionError("read")

    data, comment = encode(noise(16, 16), "JPEG"), b"\xff\xfe\0\2"
    assert decode_photo(data[:2] + comment * 4900 + data[2:]).size == (16, 16)
    monkeypatch.setattr("PIL.Image.open", read)
    refused(
        data[:2] + comment * 5001 + data[2:], "the image is a JPEG of more than 5000 segments; save it again."
    )


@pytest.mark.parametrize("stray", [b"\0", b"\xff", b"\xff\0", b"\xff\xd0", b"\xff\xf0", b"\xff\xcc"])
def test_stray_bytes_are_limited_before_pillow_reads_them(
    stray: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode(noise(16, 16), "JPEG")
    end = data.index(b"\xff\xdb")  # where the first segment ends
    for padded in (data[:end] + stray * 70_000 + data[end:], data[:end] + stray * 70_000):
        monkeypatch.setattr("PIL.Image.open", None)
        refused(padded, "the image is not a readable PNG, JPEG or WebP file.")


def test_a_few_stray_bytes_are_passed_over() -> None:
    data = encode(noise(16, 16), "JPEG")
    end = data.index(b"\xff\xdb")
    assert decode_photo(data[:end] + bytes(1000) + data[end:]).size == (16, 16)


@pytest.mark.parametrize(
    "data",
    [
        encode(noise(16, 16), "JPEG", comment=SCAN * 200),
        encode(noise(16, 16), "JPEG", exif=b"Exif\0\0" + SCAN * 200),
        encode(noise(16, 16), "JPEG", progressive=True) + SCAN * 200,  # as phones append a film
        encode(noise(16, 16), "WEBP", xmp=SCAN * 200),
        encode(noise(16, 16), "JPEG", restart_marker_blocks=1),
    ],
    ids=["in a comment", "in exif", "after the picture", "in a WebP", "restart markers"],
)
def test_only_scans_are_counted(data: bytes) -> None:
    assert decode_photo(data).size == (16, 16)


# One symbol in each Huffman table, of one bit: as little data as a picture of this size can have.
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize(
    "options", [{}, {"optimize": True}, {"progressive": True, "optimize": True}], ids=str
)
@pytest.mark.parametrize("subsampling", [0, 2])
def test_one_colour_is_never_short(mode: str, options: dict[str, Any], subsampling: int) -> None:
    data = io.BytesIO()
    Image.new(mode, (2000, 3000), 128 if mode == "L" else (128,) * len(mode)).save(
        data, "JPEG", subsampling=subsampling, **options
    )
    assert not jpeg.is_short(data.getvalue())
    assert decode_photo(data.getvalue()).size == (2000, 3000)


def test_a_header_without_pixels_is_damaged_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: Image.Image) -> None:
        raise MemoryError

    # In 4:2:0, the height and the width lie after the marker, the length and the depth.
    small = encode(noise(16, 16), "JPEG")
    at = small.index(BASELINE) + 5
    huge = small[:at] + np.array([7000, 7000], ">u2").tobytes() + small[at + 4 :]
    # 875 x 875 blocks of luminance, at one bit each, in whole bytes
    enough = huge + bytes(-(-875 * 875 // 8) - len(huge))
    assert not jpeg.is_short(enough)
    assert jpeg.is_short(enough[:-1])
    # an arithmetic code can spend less than a bit on a block
    assert not jpeg.is_short(huge.replace(BASELINE, ARITHMETIC))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    refused(huge, "the image is damaged: its JPEG data cannot be decoded.")
