"""How long a caller waits, alone and beside others: writes results/serving_latency.md.

Absolute times depend on the machine; the limits are on ratios within one run, and on counts. With an address as the
argument it measures a server that already runs, and writes nothing: for two versions side by side.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import tritonclient.grpc as grpc
from nexus_client import AsyncClient, Client, NexusError
from nexus_ensembles.imaging import png
from nexus_server.local import LocalServer

from benchmarks.publish import machine, publish
from benchmarks.serving import tensors
from tests.functional.support.deployment import MODELS, PHOTOS, ROOT, executions
from tests.functional.support.photos import ellipse, unique_photo

CALLS = 200
ROUNDS = 5
STRANGERS = 8
POINT = np.array([[[224, 100]]], np.float32)
FLOOD, FLOOD_PHOTOS, FLOOD_TIMEOUT_S = 200, 4, 60.0
# What this project promises of the compact deployment, checked at the end of every run.
LIMITS = {
    ("warm clicks", "max / median"): 3,
    ("cleanups", "max / median"): 3,
    ("warm clicks beside 8 cold photos", "p95 / p95 alone"): 2.5,
    ("eight different clicks at once", "sam_decoder executions"): 3,
    ("200 clicks on 4 photos at once", "latest answer or refusal s"): FLOOD_TIMEOUT_S + 2,
}
LEAST = {("200 clicks on 4 photos at once", "answered"): 150}

_numbers = itertools.count(int(time.time()) % 60000)


def main(*urls: str) -> None:
    """Measure the server at `urls`, or one of this checkout, whose results are written."""
    if urls:
        print(report(measure(urls[0])))
        return
    with LocalServer(MODELS, ROOT / "build/bench-server.log") as server:
        results = measure(server.url)
    publish("serving_latency", results, report(results), LIMITS, LEAST)


def measure(url: str) -> dict[str, Any]:
    """Every section of the page."""
    with grpc.InferenceServerClient(url) as triton, Client(url, timeout=300) as client:
        data = (PHOTOS / "astronaut.jpg").read_bytes()
        click = tensors(image=data, points=POINT)
        mask = ellipse((512, 512), (300, 200), (60, 40)).astype(np.uint8) * np.uint8(255)
        hole = tensors(image=data, mask=png.encode(mask))
        return {
            "machine": machine(),
            "warm clicks": spread(timed(lambda: triton.infer("segment", click), CALLS)),
            "cleanups": spread(timed(lambda: triton.infer("cleanup", hole), CALLS)),
            "warm clicks beside 8 cold photos": beside(client, lambda: triton.infer("segment", click)),
            "eight different clicks at once": eight(client, triton),
            "200 clicks on 4 photos at once": asyncio.run(flood(url)),
        }


def timed(call: Callable[[], object], times: int) -> list[float]:
    """Milliseconds of each of `times` calls, one after another; one before is not counted."""
    call()
    marks = [time.perf_counter()]
    for _ in range(times):
        call()
        marks.append(time.perf_counter())
    return [(after - before) * 1000 for before, after in itertools.pairwise(marks)]


def new_photos(count: int) -> list[bytes]:
    """Photos that no server has seen, since a cache may outlive a run of this module."""
    return [unique_photo(next(_numbers)) for _ in range(count)]


def spread(ms: list[float]) -> dict[str, float]:
    """The usual and the worst of `ms`."""
    median = statistics.median(ms)
    return {"p50 ms": median, "p95 ms": p95(ms), "max ms": max(ms), "max / median": max(ms) / median}


def p95(ms: list[float]) -> float:
    return statistics.quantiles(ms, n=20)[-1]


def beside(client: Client, warm_click: Callable[[], object]) -> dict[str, float]:
    """Warm clicks of one caller while others click on new photos, and alone, by turns."""
    alone: list[float] = []
    accompanied: list[float] = []
    cold: list[float] = []

    def stranger(photo: bytes) -> None:
        start = time.perf_counter()
        client.segment(photo, [(224, 100)])
        cold.append((time.perf_counter() - start) * 1000)

    with ThreadPoolExecutor(STRANGERS) as pool:
        for _ in range(ROUNDS):
            alone += timed(warm_click, CALLS // ROUNDS)
            strangers = [pool.submit(stranger, photo) for photo in new_photos(STRANGERS)]
            while wait(strangers, timeout=0).not_done:
                start = time.perf_counter()
                warm_click()
                accompanied.append((time.perf_counter() - start) * 1000)
            for each in strangers:
                each.result()
    return {
        "p50 alone ms": statistics.median(alone),
        "p95 alone ms": p95(alone),
        "clicks beside": len(accompanied),
        "p50 beside ms": statistics.median(accompanied),
        "p95 beside ms": p95(accompanied),
        "max beside ms": max(accompanied),
        "p95 / p95 alone": p95(accompanied) / p95(alone),
        "p50 of the cold ms": statistics.median(cold),
        "max of the cold ms": max(cold),
    }


def eight(client: Client, triton: grpc.InferenceServerClient) -> dict[str, float]:
    """Eight clients click on a new photo each."""
    names = ("sam_encoder", "sam_decoder")
    photos = new_photos(STRANGERS)
    before = [executions(triton, name) for name in names]
    start = time.perf_counter()
    with ThreadPoolExecutor(STRANGERS) as pool:
        list(pool.map(lambda photo: client.segment(photo, [(224, 100)]), photos))
    elapsed = (time.perf_counter() - start) * 1000
    counts = {f"{name} executions": executions(triton, name) - n for name, n in zip(names, before)}
    return {"ms": elapsed, **counts}


async def flood(url: str) -> dict[str, float]:
    """Many callers at once, who try again when refused, as long as their time lasts."""
    photos = new_photos(FLOOD_PHOTOS)
    start = time.perf_counter()
    ends: list[float] = []

    async def click(number: int) -> str:
        try:
            await client.segment(photos[number % FLOOD_PHOTOS], [(200 + number, 100 + number)])
        except NexusError as error:
            return type(error).__name__
        finally:
            ends.append(time.perf_counter() - start)
        return "answered"

    async with AsyncClient(url, timeout=FLOOD_TIMEOUT_S) as client:
        outcomes = Counter(await asyncio.gather(*map(click, range(FLOOD))))
    return {
        "answered": outcomes.pop("answered", 0),
        **{f"ended by {name}": count for name, count in outcomes.items()},
        "half of them within s": statistics.median(ends),
        "latest answer or refusal s": max(ends),
    }


def report(results: dict[str, Any]) -> str:
    """The results as a markdown page."""
    lines = [
        "# How long a caller waits, on a CPU",
        "",
        "Made by `make bench`; the default profile, no GPU.",
        "",
    ]
    lines += [
        f"Machine: {results['machine']}. One caller clicks on one photo unless a title says otherwise.",
        "",
    ]
    for title, figures in results.items():
        if isinstance(figures, dict):
            lines += [f"## {title.capitalize()}", "", "| figure | value | limit |", "|---|---:|---:|"]
            for name, value in figures.items():
                limit = LIMITS.get((title, name), LEAST.get((title, name)))
                lines.append(f"| {name} | {show(name, value)} | {'' if limit is None else f'{limit:g}'} |")
            lines.append("")
    return "\n".join(lines)


def show(name: str, value: float) -> str:
    return f"{value:.2f}" if "/" in name else f"{value:.1f}" if name.endswith(" s") else f"{value:.0f}"


if __name__ == "__main__":
    main(*sys.argv[1:])
