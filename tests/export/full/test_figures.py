"""The figures' own test: processes that write at once lose nothing, and a peak is the function's own."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tests.export.full.figures import measured, record


def _hold(megabytes: int) -> int:
    return int(np.ones(megabytes << 20, np.uint8)[-1])


def test_a_peak_is_the_functions_own() -> None:
    held = np.ones(1 << 30, np.uint8)  # the parent's, that must not count
    small, large = measured(_hold, 10), measured(_hold, 300)
    assert held[0] == small.result == large.result == 1
    # Two interpreters differ by a few megabytes.
    assert abs(large.peak_rss_bytes - small.peak_rss_bytes - (290 << 20)) < 30 << 20
    assert small.peak_rss_bytes < 500 << 20


def test_entries_are_merged(tmp_path: Path) -> None:
    path = tmp_path / "full_size.json"
    record("b", path, seconds=1.5, peak_bytes=2_340_000_000)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda index: record(f"a{index}", path, max_abs=1e-5), range(8)))
    record("b", path, seconds=2.5)
    entries = json.loads(path.read_text())
    assert list(entries) == [*(f"a{index}" for index in range(8)), "b"]
    assert (entries["b"]["seconds"], entries["b"]["peak_bytes"]) == (2.5, 2_340_000_000)
    assert "| b | peak 2.34 GB; seconds 2.5 |" in path.with_suffix(".md").read_text()
