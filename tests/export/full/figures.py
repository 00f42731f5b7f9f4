"""The figures of the full-size tests: benchmarks/results/full_size.json, and its page."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from benchmarks.publish import RESULTS, machine

Result = TypeVar("Result")
Figure = float | str
Entries = dict[str, dict[str, Figure]]

_TITLE = """# Full size

What exporting, checking and compiling the networks takes at the published checkpoints' sizes, written by
`make test-full`. The weights are random (no published file is needed): sizes, seconds and memory are those of the
trained networks, quality is not. A peak is of the resident memory of the process that did nothing else.

| what | figures | machine |
|---|---|---|
"""


class Measured(NamedTuple, Generic[Result]):
    """A function's result, with its time and memory in a process of its own."""

    result: Result
    peak_rss_bytes: int
    seconds: float


def measured(function: Callable[..., Result], *args: Any, **kwargs: Any) -> Measured[Result]:
    """Run `function`, of a module's top level, in a fresh process; imports count for memory, not for seconds.

    Arguments and result are pickled: pass paths, not arrays.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as process:
        return process.submit(_measure, function, *args, **kwargs).result()


def record(name: str, path: Path = RESULTS / "full_size.json", **figures: Figure) -> None:
    """Merge `figures` into the entry of this name, and rewrite the page; safe from several processes at once.

    A figure's unit is the end of its name: `peak_bytes`, `seconds`, `unet_psnr_db`, `max_abs`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.seek(0)
        entries: Entries = json.loads(stream.read() or "{}")
        entries[name] = {**entries.get(name, {}), **figures, "machine": machine()}
        stream.truncate(0)
        stream.write(json.dumps(entries, indent=2, sort_keys=True) + "\n")
        stream.flush()
        path.with_suffix(".md").write_text(_page(entries), encoding="utf-8")


def _measure(function: Callable[..., Result], *args: Any, **kwargs: Any) -> Measured[Result]:
    started = time.monotonic()
    result = function(*args, **kwargs)
    return Measured(result, _peak_rss_bytes(), time.monotonic() - started)


def _peak_rss_bytes() -> int:
    # Not getrusage: its peak begins with what the parent held when it forked.
    [line] = [
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")
    ]
    return int(line.split()[1]) * 1024


def _page(entries: Mapping[str, Mapping[str, Figure]]) -> str:
    rows = []
    for name, figures in sorted(entries.items()):
        cells = "; ".join(_in_words(key, value) for key, value in sorted(figures.items()) if key != "machine")
        rows.append(f"| {name} | {cells} | {figures['machine']} |")
    return _TITLE + "\n".join(rows) + "\n"


def _in_words(key: str, value: Figure) -> str:
    if isinstance(value, str):
        return f"{key.replace('_', ' ')}: {value}"
    for suffix, text in (("_bytes", f"{value / 1e9:.3g} GB"), ("_db", f"{value:.1f} dB")):
        if key.endswith(suffix):
            return f"{key.removesuffix(suffix).replace('_', ' ')} {text}"
    return f"{key.replace('_', ' ')} {value:.3g}"
