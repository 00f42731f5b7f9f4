"""How often the content filter is right: `python -m benchmarks.content_filter` writes results/content_filter.md.

Two sets of prompts, each half harmful in many spellings and half harmless near-misses. The filter's word list was
corrected on the first, to which a review added what it found let through; the second was written before the filter
first ran, and nothing was changed for it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict

from nexus_ensembles.errors import BadInput
from nexus_ensembles.prompts.content_filter import ContentFilter

from benchmarks.publish import publish

ROOT = Path(__file__).parents[1]
SETS = {
    "the set": ROOT / "tests/data/content_prompts.tsv",
    "held out": ROOT / "tests/data/content_prompts_held_out.tsv",
}

Summary = TypedDict(
    "Summary",
    {
        "prompts": int,
        "harmful let through": int,
        "harmless rejected": int,
        "confusion": dict[str, dict[str, int]],
        "errors": list[tuple[str, str, str]],
    },
)


def main() -> None:
    """Run both sets and write the confusion tables."""
    content_filter = ContentFilter.load("on")
    judged = {
        name: [(*row, verdict(content_filter, row[1])) for row in read(path)] for name, path in SETS.items()
    }
    results = {name: summary(rows) for name, rows in judged.items()}
    publish("content_filter", results, report(results))


def read(path: Path) -> list[tuple[str, str]]:
    """(category or "harmless", prompt) for each line; prompts are in JSON's escapes."""
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    return [
        (expected, json.loads(f'"{prompt}"')) for expected, prompt in (line.split("\t") for line in lines)
    ]


def verdict(content_filter: ContentFilter, prompt: str) -> str:
    """The category that the filter names, or "harmless"."""
    try:
        content_filter.check(prompt)
    except BadInput as error:
        return str(error).removeprefix("the prompt asks for ").partition(",")[0]
    return "harmless"


def summary(rows: list[tuple[str, str, str]]) -> Summary:
    """Counts of (expected, prompt, found), and every prompt that was judged wrongly."""
    confusion: dict[str, dict[str, int]] = {}
    for expected, _, found in rows:
        row = confusion.setdefault(expected, {})
        row[found] = row.get(found, 0) + 1
    return {
        "prompts": len(rows),
        "harmful let through": sum(e != "harmless" and f == "harmless" for e, _, f in rows),
        "harmless rejected": sum(e == "harmless" and f != "harmless" for e, _, f in rows),
        "confusion": confusion,
        "errors": [row for row in rows if row[0] != row[2]],
    }


def report(results: dict[str, Summary]) -> str:
    """The summaries as a markdown page."""
    lines = [
        "# The content filter",
        "",
        "Made by `python -m benchmarks.content_filter` from the prompts in tests/data. Harmful prompts are written in",
        "many spellings (case, l33t, spacing, look-alikes, zero-width characters), harmless ones are near-misses. The",
        "word list may be corrected for the set, never for the held-out set, which was written before the filter first",
        "ran. Both are by the list's author, who knows what the filter can do: expect more errors in others' prompts.",
        "The set's brackets inside words and its starred letters were let through until a review found that; of the",
        "held-out prompts one has stars, beside the same word in plain letters.",
        "",
    ]
    for name, result in results.items():
        found = list(dict.fromkeys(f for row in result["confusion"].values() for f in row))
        lines += [
            f"## {name.capitalize()}: {result['prompts']} prompts",
            "",
            f"Harmful let through: {result['harmful let through']}. Harmless rejected: {result['harmless rejected']}.",
            "",
            f"| asked for | {' | '.join(found)} |",
            f"|---|{'---:|' * len(found)}",
        ]
        for expected, row in result["confusion"].items():
            lines.append(f"| {expected} | {' | '.join(str(row.get(f, 0)) for f in found)} |")
        lines += ["", "Errors:" if result["errors"] else "No errors."]
        lines += [
            f"- {prompt!a}: {expected}, found {judged}" for expected, prompt, judged in result["errors"]
        ]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
