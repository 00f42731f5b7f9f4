"""What every benchmark does with its figures: results/NAME.json, results/NAME.md, and the limits it promises."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"

# The largest or the least value of a figure, by its section and its name.
Limits = Mapping[tuple[str, str], float]


def machine() -> str:
    """The machine in words."""
    return f"{os.cpu_count()} cores, {processor()}, Python {platform.python_version()}"


def processor() -> str:
    """The processor in words, with the instruction sets that decide how it multiplies."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    found = dict(line.split("\t", 1) for line in lines if "\t" in line)
    model, flags = (found.get(key, "").partition(":")[2].split() for key in ("model name", "flags"))
    kinds = [name for name in ("amx_int8", "avx512_vnni", "avx_vnni", "avx512f", "avx2") if name in flags]
    return f"{' '.join(model)} ({', '.join(kinds)})"


def publish(
    name: str,
    results: Mapping[str, Any],
    page: str,
    limits: Limits | None = None,
    least: Limits | None = None,
) -> None:
    """Write the results and their page, and print it; exits with what is above ``limits`` or below ``least``.

    Other load on the machine raises every ratio of times.
    """
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(results, indent=2) + "\n")
    (RESULTS / f"{name}.md").write_text(page)
    print(page)
    missed = [
        f"{title}, {figure}: {results[title][figure]:.4g}, {words} {limit:g}"
        for bounds, sign, words in ((limits, 1, "at most"), (least, -1, "at least"))
        for (title, figure), limit in (bounds or {}).items()
        if sign * results[title][figure] > sign * limit
    ]
    if missed:
        sys.exit(f"missed: {'; '.join(missed)}")
