"""Bounds the cost of decoding a JPEG by its segments (ITU-T T.81, annex B), without decoding it."""

import re
import struct
from collections.abc import Iterator

from nexus_ensembles.errors import BadInput

SIGNATURE = b"\xff\xd8\xff"
# Every scan of a progressive JPEG, even one of a few bytes, passes over all pixels; encoders write about ten.
MAX_SCANS = 100
# Pillow takes 6 us to read even an empty one. A file of the largest size, all metadata, needs 1,000 full ones.
MAX_SEGMENTS = 5000
# Pillow reads bytes between the segments before the first scan one by one: a second and more for each MB.
MAX_STRAY_BYTES = 2**16

# Markers without a length start no segment: stuffed and fill bytes, restart markers, SOI. Nor do those that Pillow
# reads as such: reserved markers, which end the decoding, and DAC, whose few bytes hold no marker.
_SEGMENT_OR_END = re.compile(rb"\xff([\xc0-\xc7\xc9-\xcb\xcd-\xcf\xd9-\xef\xfe])")
_END, _SCAN = 0xD9, 0xDA
# Baseline, extended and progressive. Arithmetic coding, which has frames of its own, takes less than a bit a block.
_HUFFMAN_FRAMES = (0xC0, 0xC1, 0xC2)


def check(data: bytes, what: str) -> None:
    """Raise BadInput for a JPEG without a scan or beyond the limits above; `what` names it in the sentence."""
    scans = stray = 0
    end = 2
    for number, (marker, start) in enumerate(_segments(data), 1):
        if not scans:
            stray += start - 2 - end
            end = start + int.from_bytes(data[start : start + 2], "big")
        scans += marker == _SCAN
        if scans > MAX_SCANS:
            raise BadInput(f"the {what} is a JPEG of more than {MAX_SCANS} scans; save it again.")
        if number > MAX_SEGMENTS:
            raise BadInput(f"the {what} is a JPEG of more than {MAX_SEGMENTS} segments; save it again.")
    if not scans or stray > MAX_STRAY_BYTES:
        raise BadInput(f"the {what} is not a readable PNG, JPEG or WebP file.")


def is_short(data: bytes) -> bool:
    """True if so few bytes cannot hold so many pixels; libjpeg would make up the missing ones, at their full price.

    Each block of 8 x 8 samples has a DC coefficient, whose Huffman code has one bit or more. That holds for
    progressive files too: they may pass over a run of blocks in one code, but only in the scans of AC coefficients.
    """
    for marker, start in _segments(data):
        if marker in _HUFFMAN_FRAMES:
            frame: tuple[int, int, int] = struct.unpack_from(">HHB", data, start + 3)
            height, width, components = frame
            sampling = [divmod(byte, 16) for byte in data[start + 9 : start + 8 + 3 * components : 3]]
            finest = max(
                across * down for across, down in sampling
            )  # of this component alone, to be on the safe side
            whole = max(across for across, _ in sampling) * max(down for _, down in sampling)
            return len(data) * 8 * whole < width * height // 64 * finest
    return False


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the marker of each segment of the first picture, and the offset of its length.

    Stops at the end of the picture: phones append a film or more pictures. The data of a scan lie between its segment
    and the next one, and hold no marker but those of restarts.
    """
    position = 2
    while (found := _SEGMENT_OR_END.search(data, position)) and found[1][0] != _END:
        yield found[1][0], found.end()
        length = int.from_bytes(data[found.end() : found.end() + 2], "big")
        position = found.end() + max(2, length)
