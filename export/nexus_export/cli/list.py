"""The command `nexus-export list`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from nexus_export.artifacts import (
    LICENCE_KEY,
    SOURCE_KEY,
    file_bytes,
    precision_of,
    read_metadata,
    read_quality,
)
from nexus_export.cli.options import REPOSITORY, Out
from nexus_export.default_profile import RECIPES, State, state
from nexus_export.downloads.packages import PINNED_FILES
from nexus_export.families.registry import CHECKPOINTS
from nexus_export.networks import Metric, Network, artifact, choose

# The gates' figures, short enough for a column of a narrow terminal.
_SHORT: Mapping[Metric | Literal["max_abs", "max_relative"], str] = {
    "max_abs": "levels",
    "max_relative": "relative",
    "mask_iou": "mask IoU",
    "alpha_mean_abs": "alpha abs",
    "hole_psnr_db": "hole dB",
    "psnr_db": "dB",
}


def list_command(
    out: Out = REPOSITORY,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Show the published checkpoints instead.")
    ] = False,
    pins: Annotated[
        bool,
        typer.Option("--pins", help="Print the tables of MODELS.md: published checkpoints and checksums."),
    ] = False,
) -> None:
    """Show every network: the source and licence of its weights, the built artifact and its quality."""
    if pins:
        print(_pins())
        return
    # No markup: names of files may have brackets.
    Console(markup=False).print(_checkpoints() if checkpoints else _networks(out))


def _networks(out: Path) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("network", "state", "at"):
        table.add_column(title, no_wrap=True)
    table.add_column("MB", justify="right", no_wrap=True)
    table.add_column("quality", no_wrap=True)
    table.add_column("weights")
    for network in choose([]):
        table.add_row(network.name, *_row(network, out))
    return table


def _row(network: Network, out: Path) -> tuple[str, ...]:
    path, recipe = artifact(network.name, out), RECIPES.get(network.name)
    if not path.is_file():
        weights = f"{recipe.source} ({recipe.licence})" if recipe else "a checkpoint (its own licence)"
        return State.MISSING.value, "", "", "", weights
    metadata = read_metadata(path)
    found = state(recipe, out) if recipe else State.CHECKPOINT
    quality = read_quality(path)
    return (
        found.value,
        precision_of(metadata),
        f"{file_bytes(path) / 1e6:.1f}",
        f"{_SHORT[quality['gate']['metric']]} {quality['gate']['value']:.3g}" if quality else "not measured",
        f"{metadata.get(SOURCE_KEY, 'unknown')} ({metadata.get(LICENCE_KEY, 'licence unknown')})",
    )


def _checkpoints() -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("checkpoint", "for"):
        table.add_column(title, no_wrap=True)
    table.add_column("licence", overflow="fold")
    table.add_column("MB", justify="right", no_wrap=True)
    table.add_column("note", no_wrap=True)
    for checkpoint in CHECKPOINTS.values():
        megabytes = f"{checkpoint.bytes / 1e6:.0f}"
        table.add_row(checkpoint.name, checkpoint.group, checkpoint.licence, megabytes, checkpoint.note)
    return table


def _pins() -> str:
    """Markdown: the published checkpoints, and the SHA-256 of every pinned file or, of a folder, its largest."""
    lines = ["| name | builds | what it is | MB | licence |", "|---|---|---|---|---|"]
    for c in CHECKPOINTS.values():
        lines.append(f"| `{c.name}` | {c.group} | {c.note} | {c.bytes / 1e6:,.0f} | {c.licence} |")
    lines += ["", "| file | sha256 |", "|---|---|"]
    lines += [f"| {file.release}: {Path(file.member).name} | {file.sha256} |" for file in PINNED_FILES]
    for c in CHECKPOINTS.values():
        largest = max(c.files, key=lambda file: file.bytes or 0)
        label = (
            c.name if len(c.files) == 1 else f"{c.name}: {Path(largest.path).parent}, of {len(c.files)} files"
        )
        lines.append(f"| {label} | {largest.sha256} |")
    return "\n".join(lines)
