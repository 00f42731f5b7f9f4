"""Further clicks on a photo: their time beside the bare decoder's, their bytes, and masks of photos read smaller.

Run by `python -m benchmarks.clicks`; it writes results/clicks.md. Ratios are taken within one run, call by call in
turn, as in benchmarks/serving.py. "Nothing kept" is the same server with a photo store of 0 bytes.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tritonclient.grpc as grpc
from nexus_client import EncodedImage
from nexus_client._operations import segment as segment_request
from nexus_client._wire import to_wire
from nexus_ensembles import sam, segment
from nexus_ensembles.imaging.decode import decode_photo, decode_reduced
from nexus_ensembles.imaging.photo_store import SentImage
from nexus_ensembles.local import LocalNetworks
from nexus_ensembles.networks import Array
from nexus_ensembles.sam import ResizeLongestSide
from nexus_ensembles.segment import Prompt
from nexus_server.local import LocalServer
from PIL import Image

from benchmarks.publish import machine, publish
from benchmarks.serving import decoder_feeds, in_turn, session, tensors
from tests.functional.support.deployment import MODELS, PHOTOS, ROOT, subset

PLACE = ("server", "segment")
# Photo and click.
CLICKS = {
    "600 x 400": ("coffee.jpg", (240.0, 160.0)),
    "13 megapixels": ("dragonfly.jpg", (2400.0, 1700.0)),
}
# What this project promises of a further click, by reference.
LIMITS = {("600 x 400", "ratio to the decoder"): 1.25, ("13 megapixels", "ratio to the decoder"): 2.5}
# Photo and clicks, or a box; scaled with the photo to LONG_SIDE pixels.
PROMPTS: list[tuple[str, list[tuple[float, float]], tuple[float, ...]]] = [
    ("astronaut.jpg", [(224, 100)], ()),
    ("astronaut.jpg", [], (90, 5, 430, 511)),
    ("chelsea.jpg", [(215, 170)], ()),
    ("chelsea.jpg", [], (55, 60, 130, 130)),
    ("coffee.jpg", [(240, 160)], ()),
    ("coffee.jpg", [], (330, 260, 420, 340)),
    ("rocket.jpg", [(325, 200)], ()),
    ("rocket.jpg", [], (308, 108, 356, 376)),
    ("mountains.jpg", [(420, 300)], ()),
    ("mountains.jpg", [], (500, 230, 1270, 620)),
    ("wine.jpg", [(420, 280)], ()),
    ("wine.jpg", [], (40, 700, 640, 1260)),
    ("dragonfly.jpg", [(2400, 1700)], ()),
    ("dragonfly.jpg", [], (1000, 700, 3300, 2500)),
]
LONG_SIDE = 4224
QUALITY = 95
SAM = sam.MODELS.get("sam")


def main() -> None:
    """Measure clicks against a server, then reading without one; write the results."""
    with tempfile.TemporaryDirectory() as folder:
        nothing_kept = subset(Path(folder) / "models", "sam_encoder", "sam_decoder")
        shutil.copytree(MODELS / "segment", nothing_kept / "segment")
        config = nothing_kept / "segment/config.pbtxt"
        config.write_text(
            re.sub(r'("photo_store_bytes" value { string_value: )"\d+"', r'\1"0"', config.read_text())
        )
        keeping = subset(Path(folder) / "keeping", "sam_encoder", "sam_decoder", "segment")
        log = ROOT / "build/bench-clicks.log"
        with (
            LocalServer(keeping, log) as server,
            LocalServer(nothing_kept, log.with_suffix(".0.log")) as other,
            grpc.InferenceServerClient(server.url) as triton,
            grpc.InferenceServerClient(other.url) as forgetful,
        ):
            results: dict[str, Any] = {"machine": machine()}
            for title, (name, click) in CLICKS.items():
                results[title] = clicks(triton, forgetful, (PHOTOS / name).read_bytes(), click)
    results["reading"] = reading((PHOTOS / "dragonfly.jpg").read_bytes())
    results["masks"] = asyncio.run(masks())
    publish("clicks", results, report(results), LIMITS)


def clicks(
    triton: grpc.InferenceServerClient,
    forgetful: grpc.InferenceServerClient,
    data: bytes,
    click: tuple[float, float],
) -> dict[str, float]:
    """A further click on a photo, bytes to bytes: by reference, with the file, and where nothing is kept."""
    points = np.array([[click]], np.float32)
    sent = tensors(image=data, points=points)
    referred = tensors(image=EncodedImage(data).reference, points=points)
    triton.infer("segment", sent)
    forgetful.infer("segment", sent)
    feeds = decoder_feeds(data, click)
    decoder = session("sam_decoder")

    def bare() -> None:
        decoder.run(None, feeds)

    by_reference, decoding, ratio = in_turn(lambda: triton.infer("segment", referred), bare)
    with_file, _, file_ratio = in_turn(lambda: triton.infer("segment", sent), bare)
    forgotten, _, forgotten_ratio = in_turn(lambda: forgetful.infer("segment", sent), bare)
    handle = EncodedImage(data)
    first = request_bytes(handle, click)
    handle.sent_to(PLACE)
    return {
        "bare decoder ms": decoding,
        "click by reference ms": by_reference,
        "ratio to the decoder": ratio,
        "click with the file ms": with_file,
        "with the file, ratio to the decoder": file_ratio,
        "click, nothing kept ms": forgotten,
        "nothing kept, ratio to the decoder": forgotten_ratio,
        "first click bytes sent": first,
        "further click bytes sent": request_bytes(handle, click),
    }


def request_bytes(handle: EncodedImage, click: tuple[float, float]) -> int:
    """The size of the client's request for a click."""
    request = segment_request(handle, [click], None, None, None, None)
    return int(to_wire("segment", request.inputs_for(PLACE)).ByteSize())


def reading(data: bytes) -> dict[str, float]:
    """Milliseconds to read a photo of 13 megapixels for each network, whole and at a lower scale."""

    def whole(side: int | None) -> Array:
        photo = decode_photo(data)
        if side:
            return small(photo.rgb, side)
        return ResizeLongestSide(*photo.size).apply_image(photo.rgb)

    def small(rgb: Array, side: int) -> Array:
        return np.asarray(Image.fromarray(rgb).resize((side, side), Image.Resampling.LANCZOS))

    def reduced(side: int) -> Array:
        return small(decode_reduced(data, lambda *_: (2 * side, 2 * side))[0].rgb, side)

    rgb = decode_photo(data).rgb
    return {
        "file, hashed": milliseconds(lambda: hashlib.sha256(data).digest()),
        "segment: whole, framed": milliseconds(lambda: whole(None)),
        "segment: at a lower scale, framed": milliseconds(lambda: segment._frame(SAM, data)),
        "remove_background: the network's input from the pixels that are there": milliseconds(
            lambda: small(rgb, 320)
        ),
        "remove_background: the network's input from a second reading, at a lower scale": milliseconds(
            lambda: reduced(320)
        ),
    }


async def masks() -> list[dict[str, Any]]:
    """The IoU of masks of 13-megapixel JPEGs read at a lower scale with those of the same file read whole.

    Beside it that of the same pixels saved again, which is what any editor does to a photo.
    """
    networks, rows = LocalNetworks(MODELS), []
    for name, prompts in itertools.groupby(PROMPTS, lambda prompt: prompt[0]):
        photo = Image.open(PHOTOS / name).convert("RGB")
        scale = LONG_SIDE / max(photo.size)
        data = (PHOTOS / name).read_bytes()
        if scale > 1:
            data = save(photo.resize([round(side * scale) for side in photo.size], Image.Resampling.BICUBIC))
        again = save(Image.open(io.BytesIO(data)).convert("RGB"))
        sent = await SentImage.find(data, None)
        encoded = [
            await segment._encode(networks, SAM, sent, read)
            for read in (framed(data), segment._frame(SAM, data), framed(again))
        ]
        for _, points, box in prompts:
            prompt = Prompt.parse(
                np.array(points, np.float32).reshape(-1, 2) * scale,
                None,
                np.array(box, np.float32) * scale,
                encoded[0].size,
            )
            found = [(await segment.predict(networks, SAM, sent, item, prompt)).mask for item in encoded]
            ious = [float((mask & found[0]).sum() / (mask | found[0]).sum()) for mask in found[1:]]
            rows.append(
                {"photo": name, "prompt": "click" if points else "box"}
                | dict(zip(("read at a lower scale", "saved again"), ious))
            )
    return rows


def framed(data: bytes) -> segment.FramedPhoto:
    """The encoder's square of a photo that is read whole."""
    photo = decode_photo(data)
    return segment.FramedPhoto(photo.size, SAM.resize(*photo.size).apply_image(photo.rgb))


def save(photo: Image.Image) -> bytes:
    data = io.BytesIO()
    photo.save(data, "JPEG", quality=QUALITY, subsampling=2)
    return data.getvalue()


def milliseconds(function: Callable[[], Any]) -> float:
    """The median of nine calls."""
    times = []
    for _ in range(9):
        start = time.perf_counter()
        function()
        times.append((time.perf_counter() - start) * 1000)
    return median(times)


def report(results: dict[str, Any]) -> str:
    """The results as a markdown page."""
    lines = [
        "# Further clicks on a photo",
        "",
        "Made by `python -m benchmarks.clicks`; the default profile, no GPU.",
        "",
    ]
    lines += [f"Machine: {results['machine']}. Times are medians, ratios medians over calls in turn.", ""]
    for title in CLICKS:
        lines += [f"## {title.capitalize()}", "", "| figure | value | limit |", "|---|---:|---:|"]
        for name, value in results[title].items():
            limit = LIMITS.get((title, name), "")
            lines.append(
                f"| {name} | {value:.2f} | {limit} |" if "ratio" in name else f"| {name} | {value:.0f} | |"
            )
        lines.append("")
    lines += ["## Reading 13 megapixels", "", "| reading | ms |", "|---|---:|"]
    lines += [f"| {name} | {value:.0f} |" for name, value in results["reading"].items()]
    lines += [
        "",
        "remove_background needs every pixel for its output, so a second reading is no gain there.",
        "",
    ]
    lines += ["## Masks of 13-megapixel photos, IoU with the photo read whole", ""]
    lines += [
        f"All but the dragonfly are enlarged. Beside it, the same pixels saved again at quality {QUALITY}.",
        "",
        "| photo | prompt | read at a lower scale | saved again |",
        "|---|---|---:|---:|",
    ]
    for row in results["masks"]:
        lines.append(
            f"| {row['photo']} | {row['prompt']} | {row['read at a lower scale']:.4f} | {row['saved again']:.4f} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
