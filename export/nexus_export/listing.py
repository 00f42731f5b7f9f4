"""The command `nexus-export list`."""

from pathlib import Path
from typing import Annotated

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
from nexus_export.checkpoints import CHECKPOINTS
from nexus_export.cli_options import REPOSITORY, Out
from nexus_export.compact import RECIPES, State, state
from nexus_export.networks import Network, artifact, choose


def list_command(
    out: Out = REPOSITORY,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Show the published checkpoints instead.")
    ] = False,
) -> None:
    """Show every network: where its weights come from, their licence, what is built and how good it is."""
    Console().print(_checkpoints() if checkpoints else _networks(out))


def _networks(out: Path) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("network", "weights", "licence", "state"):
        table.add_column(title, overflow="fold")
    for title in ("precision", "MB"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("quality", no_wrap=True)
    for network in choose([]):
        table.add_row(network.name, *_row(network, out))
    return table


def _row(network: Network, out: Path) -> tuple[str, ...]:
    path, recipe = artifact(network.name, out), RECIPES.get(network.name)
    if not path.is_file():
        source, licence = (recipe.source, recipe.licence) if recipe else ("a checkpoint", "the checkpoint's")
        return source, licence, State.MISSING.value, "", "", ""
    metadata = read_metadata(path)
    found = state(recipe, out) if recipe else State.CHECKPOINT
    quality = read_quality(path)
    return (
        metadata.get(SOURCE_KEY, "unknown"),
        metadata.get(LICENCE_KEY, "unknown"),
        found.value,
        precision_of(metadata),
        f"{file_bytes(path) / 1e6:.1f}",
        f"{quality['gate']['metric']} {quality['gate']['value']:g}" if quality else "not measured",
    )


def _checkpoints() -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("checkpoint", "for", "licence"):
        table.add_column(title)
    table.add_column("MB", justify="right", no_wrap=True)
    table.add_column("note")
    for checkpoint in CHECKPOINTS.values():
        megabytes = f"{checkpoint.bytes / 1e6:.0f}"
        table.add_row(checkpoint.name, checkpoint.group, checkpoint.licence, megabytes, checkpoint.note)
    return table
