"""Files that are not pictures, or not ones to decode, each named after its fault."""

from __future__ import annotations

import functools
import io
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
from PIL import Image

from tests.functional.support.deployment import PHOTOS

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Where a file is truncated. Past 0.98 only the closing chunk of a PNG is missing, which decoders tolerate.
CUTS = (0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97)
BOMB_BYTES = 200 * 2**20


@functools.cache
def files() -> dict[str, bytes]:
    """Every malformed file by its name."""
    return {**_truncated(), **_broken_png(), **_bombs(), **_broken_jpeg_and_webp(), **_other_formats()}


def encode(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """`picture` as a file."""
    data = io.BytesIO()
    picture.save(data, kind, **options)
    return data.getvalue()


def encoded(kind: str, **options: Any) -> bytes:
    """A small photo, 96 x 64 pixels, encoded as `kind`."""
    return encode(Image.open(PHOTOS / "coffee.jpg").resize((96, 64)), kind, **options)


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG, its checksum right."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, pixels: bytes, extra: bytes = b"") -> bytes:
    """A PNG of any header; `pixels` is its compressed data, `extra` the chunks before that."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + extra + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def deflated_zeros(size: int) -> bytes:
    """`size` zero bytes, compressed a thousandfold, without holding them at once."""
    packer = zlib.compressobj(9)
    block = bytes(2**20)
    return b"".join(packer.compress(block) for _ in range(size // len(block))) + packer.flush()


def jpeg_of_size(width: int, height: int) -> bytes:
    """A small JPEG whose header claims another size."""
    data = bytearray(encoded("JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def _truncated() -> dict[str, bytes]:
    whole = {
        "png": encoded("PNG"),
        "jpeg": encoded("JPEG"),
        "progressive jpeg": encoded("JPEG", progressive=True),
        "webp": encoded("WEBP"),
        "lossless webp": encoded("WEBP", lossless=True),
    }
    return {
        f"{name} cut at {cut}": data[: int(len(data) * cut)] for name, data in whole.items() for cut in CUTS
    }


def _broken_png() -> dict[str, bytes]:
    good = encoded("PNG")
    rows = zlib.compress(bytes(64 * (96 * 3 + 1)))
    flipped = {
        f"png with byte {at} flipped": _flip(good, at) for at in (0, 1, 3, 7, 12, 16, 19, 23, 24, 25, 29)
    }
    return flipped | {
        "png of zero width": png(0, 64, 8, 2, rows),
        "png of zero height": png(96, 0, 8, 2, rows),
        "png of depth 3": png(96, 64, 3, 2, rows),
        "png of colour type 7": png(96, 64, 8, 7, rows),
        "palette png without a palette": png(96, 64, 8, 3, zlib.compress(bytes(64 * 97))),
        "png without pixels": SIGNATURE + good[8:33] + chunk(b"IEND", b""),
        "png of a header alone": good[:33],
        "png of a signature alone": SIGNATURE,
        "png whose pixels are not compressed": png(96, 64, 8, 2, bytes(64 * (96 * 3 + 1))),
        "png of 49 megapixels with a kilobyte of them": png(7000, 7000, 8, 2, zlib.compress(bytes(1000))),
        "deep png of 49 megapixels with a kilobyte": png(7000, 7000, 16, 6, zlib.compress(bytes(1000))),
    }


def _bombs() -> dict[str, bytes]:
    rows = zlib.compress(bytes(64 * (96 * 3 + 1)))
    zeros = deflated_zeros(BOMB_BYTES)
    profile = chunk(b"iCCP", b"k\0\0" + deflated_zeros(2**20))
    texts = (chunk(b"zTXt", b"k%d\0\0" % number + deflated_zeros(2**20)) for number in range(300))
    # without its end, behind which nothing is decoded
    scans = encoded("JPEG", progressive=True).removesuffix(b"\xff\xd9").split(b"\xff\xda")
    return {
        "png of 30,000 x 30,000": png(30_000, 30_000, 8, 2, zeros),
        "grey png of 30,000 x 30,000": png(30_000, 30_000, 1, 0, zeros),
        "png of 51 megapixels": png(7_200, 7_100, 8, 2, zeros),
        "png of 2^31 x 2^31": png(2**31 - 1, 2**31 - 1, 8, 2, rows),
        "png of 2^32 x 1": png(2**32 - 1, 1, 8, 2, rows),
        "png of a million x 1": png(1_100_000, 1, 8, 2, zlib.compress(bytes(3_300_001))),
        "png with zipped text": png(96, 64, 8, 2, rows, chunk(b"zTXt", b"k\0\0" + zeros)),
        "png with zipped international text": png(96, 64, 8, 2, rows, chunk(b"iTXt", b"k\0\1\0\0\0" + zeros)),
        "png with a zipped colour profile": png(96, 64, 8, 2, rows, chunk(b"iCCP", b"k\0\0" + zeros)),
        "png with 300 zipped texts": png(96, 64, 8, 2, rows, b"".join(texts)),
        "png with 300 colour profiles": png(96, 64, 8, 2, rows, profile * 300),
        "png with 2 MB of text": png(96, 64, 8, 2, rows, chunk(b"tEXt", b"k\0" + b"x" * 2 * 2**20)),
        "jpeg of 30,000 x 30,000": jpeg_of_size(30_000, 30_000),
        "jpeg of 65,535 x 65,535": jpeg_of_size(65_535, 65_535),
        "jpeg of 1,000 scans": b"\xff\xda".join(scans[:-1] + scans[-1:] * 1000),
        "webp of 16,383 x 16,383": _webp_of_size(16_383),
        "animated webp of 30,000 x 30,000": _animation(30_000),
        "animated webp of 65,535 x 65,535": _animation(65_535),
    }


def _broken_jpeg_and_webp() -> dict[str, bytes]:
    jpeg, webp = encoded("JPEG"), encoded("WEBP")
    frame, tables = jpeg.index(b"\xff\xc0"), jpeg.index(b"\xff\xdb")
    flipped = {f"jpeg with byte {at} flipped": _flip(jpeg, at) for at in (0, 1, 2)}
    flipped |= {f"webp with byte {at} flipped": _flip(webp, at) for at in (0, 2, 8, 11, 12, 14)}
    return flipped | {
        "jpeg of zero width": jpeg_of_size(0, 64),
        "jpeg of zero height": jpeg_of_size(96, 0),
        "jpeg of no components": jpeg[: frame + 9] + b"\0" + jpeg[frame + 10 :],
        "jpeg of 2 bits a sample": jpeg[: frame + 4] + b"\2" + jpeg[frame + 5 :],
        "jpeg without quantization tables": jpeg[:tables] + jpeg[frame:],
        "jpeg without a frame": jpeg[:frame] + b"\xff\xd9",
        "jpeg of a start and an end": b"\xff\xd8\xff\xd9",
        "jpeg that starts with data": b"\xff\xd8" + bytes(1000),
        "webp whose length is zero": webp[:4] + bytes(4) + webp[8:],
        "webp of a header alone": webp[:12],
        "webp whose first chunk is huge": webp[:16] + b"\xff\xff\xff\x7f" + webp[20:],
    }


def _other_formats() -> dict[str, bytes]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("photo.png", encoded("PNG"))
    noise = np.random.default_rng(0).bytes(100_000)
    return {
        **{
            kind.lower(): encoded(kind)
            for kind in ("GIF", "BMP", "TIFF", "ICO", "PPM", "TGA", "PCX", "JPEG2000")
        },
        "pdf": encoded("PDF"),
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="96" height="64"><rect width="9" height="9"/></svg>',
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 96 64\nshowpage\n",
        "zip": archive.getvalue(),
        "elf": b"\x7fELF\2\1\1" + bytes(1000),
        "script": b"#!/bin/sh\necho photo\n",
        "html": b"<!doctype html><title>404</title>",
        "nothing": b"",
        "one NUL": b"\0",
        "100 kB of NUL": bytes(100_000),
        "100 kB of letters": b"x" * 100_000,
        "100 kB of noise": noise,
        "noise behind a png signature": SIGNATURE + noise,
        "noise behind a jpeg start": b"\xff\xd8\xff\xe0" + noise,
        "a file name": b"/etc/passwd",
        "base64 of a png": b"iVBORw0KGgoAAAANSUhEUgAAAGAAAABACAIAAABqcj2hAAA",
        "invalid UTF-8": b"\xff\xfe\xc3\x28",
        "emoji": "\N{ROBOT FACE}".encode() * 1000,
    }


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x5A]) + data[at + 1 :]


def _webp_of_size(side: int) -> bytes:
    data = bytearray(encoded("WEBP"))
    start = data.index(b"\x9d\x01\x2a")  # the start code of a VP8 key frame
    data[start + 3 : start + 7] = struct.pack("<HH", side, side)
    return bytes(data)


def _animation(side: int) -> bytes:
    """A WebP of one small frame on a canvas of `side` x `side` pixels."""
    frame = encoded("WEBP")[12:]
    little = [struct.pack("<I", value)[:3] for value in (side - 1, 95, 63, 10)]
    canvas = b"VP8X" + struct.pack("<I", 10) + b"\x12\0\0\0" + little[0] * 2
    start = b"ANIM" + struct.pack("<IIH", 6, 0, 0)
    content = bytes(6) + little[1] + little[2] + little[3] + b"\0" + frame
    body = canvas + start + b"ANMF" + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body
