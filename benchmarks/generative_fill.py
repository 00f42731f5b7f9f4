"""Step-level batching of generative fill: `python -m benchmarks.generative_fill`, a part of `make bench`.

Eight fills of different lengths, one by one and at once, what Triton executed for them, and a plot of the UNet's rows
per batch over time; a short fill alone and beside a long one; the memory that a fill of 12 megapixels takes. Times
depend on the machine; the ratios are taken within one run.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tritonclient.grpc as grpc
from matplotlib.figure import Figure
from nexus_client import Client
from nexus_server.local import LocalServer
from PIL import Image

from benchmarks.publish import RESULTS, machine, publish
from tests.functional.support.deployment import MODELS, PHOTOS, ROOT, PeakMemory, resident_bytes

STEPS = (4, 8, 12, 20, 25, 30, 40, 50)
SIZE = (256, 256)
GUIDED_ROWS = 2
SAMPLE_S = 0.05
ROUNDS = 5
# What this project promises, checked at the end of every run.
LIMITS = {
    ("eight at once", "executions per call"): 1 / 3,
    ("4 steps beside 50", "ratio"): 2.0,
}


def main() -> None:
    """Run every benchmark against one server and write the results."""
    with (
        LocalServer(MODELS, ROOT / "build/bench-fill-server.log") as server,
        Client(server.url, timeout=300) as client,
        grpc.InferenceServerClient(server.url) as triton,
    ):
        idle = resident_bytes(server)
        fills = Fills(client)
        fills.run(2)
        results: dict[str, Any] = {
            "machine": machine(),
            "eight at once": eight_at_once(fills, triton),
            "4 steps beside 50": beside_a_long_one(fills),
            "memory": memory(server, client, idle),
        }
    publish("generative_fill", results, report(results), LIMITS)


@dataclass
class Fills:
    """Fills of one photo through one client."""

    client: Client

    def __post_init__(self) -> None:
        self._photo = np.asarray(Image.open(PHOTOS / "coffee.jpg").convert("RGB").resize(SIZE))
        self._mask = np.zeros(SIZE[::-1], np.bool_)
        self._mask[80:176, 64:192] = True

    def run(self, steps: int, seed: int = 0) -> float:
        """Seconds of one guided fill of so many steps."""
        started = time.perf_counter()
        self.client.generative_fill(
            self._photo, self._mask, "a red ball", steps=steps, strength=1.0, seed=seed
        )
        return time.perf_counter() - started


@dataclass
class BatchSizes:
    """Samples the statistics of the UNet while a block runs: rows and executions up to each moment, in seconds."""

    triton: grpc.InferenceServerClient
    samples: list[tuple[float, int, int]] = field(default_factory=list)

    def __enter__(self) -> BatchSizes:
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._started = time.perf_counter()
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._look()

    def _sample(self) -> None:
        while not self._done.wait(SAMPLE_S):
            self._look()

    def _look(self) -> None:
        found = self.triton.get_inference_statistics("sdxl_unet").model_stats[0]
        now = time.perf_counter() - self._started
        self.samples.append((now, int(found.inference_count), int(found.execution_count)))

    def total(self) -> tuple[int, int]:
        """Rows and executions from the first sample to the last."""
        (_, rows, executions), (_, last_rows, last_executions) = self.samples[0], self.samples[-1]
        return last_rows - rows, last_executions - executions


def eight_at_once(fills: Fills, triton: grpc.InferenceServerClient) -> dict[str, float]:
    """Fills of STEPS steps one by one, then all at once."""
    alone = {steps: fills.run(steps, steps) for steps in STEPS}
    with BatchSizes(triton) as sizes:
        started = time.perf_counter()
        with ThreadPoolExecutor(len(STEPS)) as pool:
            together = dict(zip(STEPS, pool.map(lambda steps: fills.run(steps, steps), STEPS)))
        wall = time.perf_counter() - started
    rows, executions = sizes.total()
    plot(sizes.samples, together)
    return {
        "one by one s": sum(alone.values()),
        "at once s": wall,
        "speed-up": sum(alone.values()) / wall,
        "UNet rows": rows,
        "UNet calls": rows / GUIDED_ROWS,
        "UNet executions": executions,
        "executions per call": executions * GUIDED_ROWS / rows,
        "rows per execution": rows / executions,
        **{f"{steps} steps alone s": seconds for steps, seconds in alone.items()},
        **{f"{steps} steps among eight s": seconds for steps, seconds in together.items()},
    }


def beside_a_long_one(fills: Fills) -> dict[str, float]:
    """The latency of a fill of 4 steps alone, and while one of 50 steps runs; medians."""
    alone = statistics.median(fills.run(4, seed) for seed in range(ROUNDS))
    beside = []
    for seed in range(ROUNDS):
        with ThreadPoolExecutor(1) as pool:
            long = pool.submit(fills.run, 50, 100)
            time.sleep(alone)  # the long one is on its way by then
            beside.append(fills.run(4, seed))
            if long.done():
                sys.exit("the fill of 50 steps was over before the one of 4: nothing was measured")
    return {
        "alone s": alone,
        "beside s": statistics.median(beside),
        "ratio": statistics.median(beside) / alone,
    }


def memory(server: LocalServer, client: Client, idle: int) -> dict[str, float]:
    """The deployment's memory as started, and at its highest while 12 megapixels are filled."""
    photo = PHOTOS / "dragonfly.jpg"
    width, height = Image.open(photo).size
    mask = np.zeros((height, width), np.bool_)
    mask[1385:1700, 3140:3345] = True
    with PeakMemory(server) as peak:
        client.generative_fill(photo, mask, "a red ball", steps=4)
    return {
        "megapixels": width * height / 1e6,
        "as started MB": idle / 1e6,
        "peak MB": peak.bytes / 1e6,
    }


def plot(samples: list[tuple[float, int, int]], seconds: dict[int, float]) -> None:
    """Draw the mean rows of the batches between two samples over time, and when each fill ended."""
    times, rows = [], []
    for (_, rows_before, executions_before), (now, rows_now, executions_now) in itertools.pairwise(samples):
        if executions_now > executions_before:
            times.append(now)
            rows.append((rows_now - rows_before) / (executions_now - executions_before))
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.step(times, rows, where="pre", linewidth=1.5)
    for steps, end in seconds.items():
        axes.axvline(end, color="grey", linewidth=0.7, linestyle="--")
        axes.text(end, 17.1, f"{steps}", ha="center", fontsize=8, color="grey")
    axes.set(
        title="Eight fills of 4 to 50 steps share the UNet's batches (dashed: the fill of so many steps ends)",
        xlabel="seconds since the eight started together",
        ylabel="rows per batch",
        ylim=(0, 18.5),
        xlim=(0, None),
    )
    axes.title.set_fontsize(10)
    axes.set_yticks(range(0, 17, 2))
    figure.savefig(RESULTS / "generative_fill.png", dpi=110)


def report(results: dict[str, Any]) -> str:
    """The results as a markdown page."""
    eight = results["eight at once"]
    lines = ["# Generative fill on a CPU", "", "Made by `make bench`; the default profile, no GPU.", ""]
    lines += [f"Machine: {results['machine']}.", ""]
    lines += [
        f"## Eight fills at once: {', '.join(map(str, STEPS))} steps",
        "",
        f"{SIZE[0]} x {SIZE[1]} pixels, guidance 7.5: {GUIDED_ROWS} UNet rows a step. A call is one step of one "
        "fill; an execution is one batch. On a CPU a batch costs about what its rows do one by one, so that what is "
        "gained here is the work between the steps.",
        "",
        "![rows per batch over time](generative_fill.png)",
        "",
        "| fill | alone, s | among eight, s |",
        "|---|---:|---:|",
        *(
            f"| {steps} steps | {eight[f'{steps} steps alone s']:.2f} | {eight[f'{steps} steps among eight s']:.2f} |"
            for steps in STEPS
        ),
        f"| all | {eight['one by one s']:.2f} one by one | {eight['at once s']:.2f} at once |",
        "",
    ]
    for title, figures in results.items():
        if isinstance(figures, dict):
            if title != "eight at once":
                lines += [f"## {title.capitalize()}", ""]
            lines += ["| figure | value | limit |", "|---|---:|---:|"]
            for name, value in figures.items():
                if not name.endswith(("alone s", "among eight s")) or title != "eight at once":
                    limit = LIMITS.get((title, name))
                    lines.append(f"| {name} | {show(value)} | {'' if limit is None else show(limit)} |")
            lines.append("")
    return "\n".join(lines)


def show(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"


if __name__ == "__main__":
    main()
