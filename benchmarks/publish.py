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
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"


def publish(
    name: str,
    results: Mapping[str, Any],
    page: str,
    limits: Limits | None = None,
    least: Limits | None = None,
) -> None:
    """Write the results and their page, and print it; exits with a sentence where a figure is past its limit."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(results, indent=2) + "\n")
    (RESULTS / f"{name}.md").write_text(page)
    print(page)
    if missed := [
        f"{title}, {figure}"
        for (title, figure), limit in (limits or {}).items()
        if results[title][figure] > limit
    ]:
        sys.exit(f"past its limit: {'; '.join(missed)} (other load on the machine raises every ratio)")
    if missed := [
        f"{title}, {figure}"
        for (title, figure), limit in (least or {}).items()
        if results[title][figure] < limit
    ]:
        sys.exit(f"short of its aim: {'; '.join(missed)}")
