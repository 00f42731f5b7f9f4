"""What serving costs over the bare networks, on this machine: `make bench` runs it and writes results/serving.md.

Absolute times depend on the machine; the ratios are taken within one run, call by call in turn, and quoted as the
median over the pairs. The bare networks run in this process, in onnxruntime with the options of the server's backend.
"""

from __future__ import annotations

import importlib
import statistics
import sys
import time
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime
import tritonclient.grpc as grpc
from nexus_client import Client
from nexus_ensembles import sam
from nexus_ensembles.imaging import png
from nexus_ensembles.imaging.decode import decode_photo
from nexus_ensembles.networks import Array
from nexus_ensembles.sam import ResizeLongestSide
from nexus_ensembles.segment import Prompt
from nexus_server.local import LocalServer
from tritonclient.utils import np_to_triton_dtype

from benchmarks.publish import machine, publish
from tests.functional.support.deployment import (
    MODELS,
    PHOTOS,
    ROOT,
    PeakMemory,
    executions,
    resident_bytes,
)
from tests.functional.support.photos import unique_photo

ROUNDS = 40
CLIENTS = 8
# What this project promises of the compact deployment, checked at the end of every run.
LIMITS = {
    ("second click", "ratio"): 1.5,
    ("second click", "encoder executions"): 0,
    ("cleanup at 512 x 512", "overhead"): 0.10,
    ("eight clicks at once", "sam_decoder executions"): 3,
    ("resident memory", "as started MB"): 2500,
    ("resident memory", "peak under 8 clients MB"): 2500,
}


def main() -> None:
    """Run every benchmark against one server and write the results."""
    with (
        LocalServer(MODELS, ROOT / "build/bench-server.log") as server,
        Client(server.url, timeout=300) as client,
    ):
        idle = resident_bytes(server)
        with grpc.InferenceServerClient(server.url) as triton:
            results: dict[str, Any] = {
                "machine": machine(),
                "second click": second_click(triton),
                "cleanup at 512 x 512": cleanup_overhead(triton),
                "eight clicks at once": eight_clicks(client, triton),
                "resident memory": memory(server, client, idle),
            }
    publish("serving", results, report(results), LIMITS)


def decoder_feeds(data: bytes, click: tuple[float, float]) -> dict[str, Array]:
    """The inputs of the bare SAM decoder for one click on the photo in `data`, encoded by the bare encoder."""
    photo = decode_photo(data)
    resize = ResizeLongestSide(*photo.size)
    prompt = Prompt.parse(np.array([click], np.float32), None, None, photo.size)
    (embedding,) = session("sam_encoder").run(None, {"image": resize.apply_image(photo.rgb)[None]})
    return {
        "embedding": embedding,
        "mask_input": np.zeros((1, 1, 256, 256), np.float32),
        "has_mask": np.zeros((1, 1), np.float32),
        **{name: array[None] for name, array in prompt.tokens(sam.MODELS.get("sam"), resize).items()},
    }


def second_click(triton: grpc.InferenceServerClient) -> dict[str, float]:
    """A further click on a photo, bytes to bytes, against decoding the photo and the bare decoder, same prompt."""
    data = (PHOTOS / "astronaut.jpg").read_bytes()
    click = tensors(image=data, points=np.array([[[224, 100]]], np.float32))
    triton.infer("segment", click)
    feeds = decoder_feeds(data, (224, 100))
    decoder = session("sam_decoder")

    def bare() -> None:
        decode_photo(data)
        decoder.run(None, feeds)

    before = executions(triton, "sam_encoder")
    served, reference, ratio = in_turn(lambda: triton.infer("segment", click), bare)
    return {
        "click ms": served,
        "bare decoder and image decoding ms": reference,
        "ratio": ratio,
        "encoder executions": executions(triton, "sam_encoder") - before,
    }


def cleanup_overhead(triton: grpc.InferenceServerClient) -> dict[str, float]:
    """A cleanup of a JPEG, bytes to bytes, against the network alone on the same pixels."""
    data = (PHOTOS / "astronaut.jpg").read_bytes()
    y, x = np.ogrid[:512, :512]
    mask = (((x - 300) / 60) ** 2 + ((y - 200) / 40) ** 2 <= 1).astype(np.uint8) * np.uint8(255)
    inputs = tensors(image=data, mask=png.encode(mask))
    lama = session("lama")
    feeds = {"image": decode_photo(data).rgb[None], "mask": mask[None, ..., None]}
    served, bare, ratio = in_turn(lambda: triton.infer("cleanup", inputs), lambda: lama.run(None, feeds))
    return {"served ms": served, "network ms": bare, "overhead": ratio - 1}


def eight_clicks(client: Client, triton: grpc.InferenceServerClient) -> dict[str, float]:
    """Eight clients click on eight new photos at once."""
    photos = [unique_photo(2000 + number) for number in range(CLIENTS)]
    before = {name: executions(triton, name) for name in ("sam_encoder", "sam_decoder")}
    start = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda photo: client.segment(photo, [(224, 100)]), photos))
    elapsed = (time.perf_counter() - start) * 1000
    return {"ms": elapsed} | {
        f"{name} executions": executions(triton, name) - count for name, count in before.items()
    }


def memory(server: LocalServer, client: Client, idle: int) -> dict[str, float]:
    """The deployment as started, after one of everything, and at its highest under eight clients."""

    def work(number: int) -> None:
        photo = unique_photo(3000 + number)
        removal = client.smart_remove(photo, points=[(224, 100)])
        client.cleanup(photo, removal.mask)
        client.remove_background(photo)

    work(0)
    used = resident_bytes(server)
    with PeakMemory(server) as peak, ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(work, range(1, CLIENTS + 1)))
    return {
        "as started MB": idle / 1e6,
        "after use MB": used / 1e6,
        "peak under 8 clients MB": peak.bytes / 1e6,
    }


def tensors(**values: bytes | Array) -> list[grpc.InferInput]:
    """A pipeline's inputs by name, as Triton's own client takes them."""
    inputs = []
    for name, value in values.items():
        array = np.array([[value]], np.object_) if isinstance(value, bytes) else value
        tensor = grpc.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        inputs.append(tensor.set_data_from_numpy(array))
    return inputs


def session(network: str) -> onnxruntime.InferenceSession:
    """The bare network, with the options that the server's backend gives it: every core, as the configs say."""
    # Triton gives this module to its own processes alone; importing the backend needs no more than its name.
    sys.modules.setdefault("triton_python_backend_utils", types.ModuleType("triton_python_backend_utils"))
    backend = importlib.import_module("nexus_backends.onnxruntime.model")
    return onnxruntime.InferenceSession(
        str(MODELS / network / "1/model.onnx"), backend.session_options(parameters={})
    )


def in_turn(a: Callable[[], Any], b: Callable[[], Any]) -> tuple[float, float, float]:
    """Median milliseconds of `a` and of `b`, and the median ratio of a call of `a` to the call of `b` after it.

    They are called in turn, so that a machine's drift meets both; what disturbs one pair does not count.
    """
    pairs = []
    for _ in range(ROUNDS):
        times = [time.perf_counter()]
        for run in (a, b):
            run()
            times.append(time.perf_counter())
        pairs.append(((times[1] - times[0]) * 1000, (times[2] - times[1]) * 1000))
    of_a, of_b = zip(*pairs)
    return statistics.median(of_a), statistics.median(of_b), statistics.median(x / y for x, y in pairs)


def report(results: dict[str, Any]) -> str:
    """The results as a markdown page."""
    lines = ["# Serving on a CPU", "", "Made by `make bench`; the default profile, no GPU.", ""]
    lines += [f"Machine: {results['machine']}. Times are medians of {ROUNDS} calls in turn.", ""]
    for title, figures in results.items():
        if isinstance(figures, dict):
            lines += [f"## {title.capitalize()}", "", "| figure | value | limit |", "|---|---:|---:|"]
            for name, value in figures.items():
                limit = LIMITS.get((title, name))
                lines.append(
                    f"| {name} | {show(name, value)} | {'' if limit is None else show(name, limit)} |"
                )
            lines.append("")
    return "\n".join(lines)


def show(name: str, value: float) -> str:
    if name == "overhead":
        return f"{value:.1%}"
    return f"{value:.2f}" if name == "ratio" else f"{value:.0f}"


if __name__ == "__main__":
    main()
