"""The command `nexus-export build`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from nexus_export.build import offered
from nexus_export.cli.options import (
    CACHE,
    REPOSITORY,
    Cache,
    Names,
    Out,
    Photos,
    explain_missing_extra,
    one_of,
)
from nexus_export.cli.progress import Progress
from nexus_export.default_profile import State, build, choose_recipes, state
from nexus_export.families.registry import REGISTRY
from nexus_export.networks import Precision, Target, artifact
from nexus_export.paths import PHOTOS

if TYPE_CHECKING:
    from nexus_export.build import Built


def build_command(
    networks: Names = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(help="Build a group from this checkpoint: a published one's name, or a file or folder."),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            metavar="fp32|fp16|int8",
            help="The type that most weights are stored in; the rest stays as each network's quality allows.",
        ),
    ] = "fp32",
    target: Annotated[
        str,
        typer.Option(
            "--for",
            metavar="cpu|gpu",
            help="Where they run: a CPU gets INT8 only where it was measured quicker than FP32, else FP16.",
        ),
    ] = "cpu",
    photos: Photos = PHOTOS,
    out: Out = REPOSITORY,
    cache: Cache = CACHE,
) -> None:
    """Build networks into the model repository, each as 1/model.onnx, unless they are up to date.

    Networks from a checkpoint, and those at a lower precision, are measured on photos first; one that is not good
    enough does not replace the old one.
    """
    chosen: Precision = one_of("precision", precision, get_args(Precision))
    runs_on: Target = one_of("processor", target, get_args(Target))
    with explain_missing_extra():
        if checkpoint is not None:
            _build_checkpoint(networks or [], checkpoint, chosen, runs_on, photos, out, cache)
        else:
            _build_default(networks or [], chosen, runs_on, photos, out, cache)


def _build_default(
    names: list[str], precision: Precision, target: Target, photos: Path, out: Path, cache: Path
) -> None:
    recipes = choose_recipes(names)
    for recipe in recipes:
        found = state(recipe, out, offered(recipe.network, precision, target), target)
        if found is State.UP_TO_DATE:
            print(f"{recipe.name}: up to date")
        elif found is State.CHECKPOINT:
            print(
                f"{recipe.name}: from a checkpoint, left alone (remove {artifact(recipe.name, out)} to undo)"
            )
        else:
            started = time.monotonic()
            with Progress(recipe.name) as progress:
                built = build(recipe, out, cache, progress.report, precision, photos, target)
            _print_result(built, precision, time.monotonic() - started)
    for group in dict.fromkeys(recipe.network.group for recipe in recipes):
        side_files = REGISTRY[group].side_files
        states = {state(recipe, out) for recipe in REGISTRY[group].recipes}
        if side_files is not None and State.CHECKPOINT not in states:
            with Progress(group) as progress:
                side_files.write(None, out, cache, progress.report)


def _build_checkpoint(
    names: list[str],
    checkpoint: str,
    precision: Precision,
    target: Target,
    photos: Path,
    out: Path,
    cache: Path,
) -> None:
    from nexus_export.checkpoint_build import build_checkpoint, group_of

    group = group_of(names)
    started = time.monotonic()
    with Progress(group) as progress:
        built = build_checkpoint(group, checkpoint, precision, out, cache, photos, progress.report, target)
    for item in built:
        _print_result(item, precision)
    print(f"{group}: built from {checkpoint} in {time.monotonic() - started:.1f} s")


def _print_result(built: "Built", wanted: Precision, seconds: float | None = None) -> None:
    """Print one line about a network that was built."""
    parts = [f"{built.network.name}: built"]
    if wanted != "fp32":
        parts.append(f"at {built.precision}")
    if built.precision != wanted:
        for_gpu = " on a CPU, --for gpu builds it" if wanted in built.network.gate.bounds else ""
        parts.append(f"({wanted} is not offered{for_gpu})")
    if seconds is not None:
        parts.append(f"in {seconds:.1f} s")
    line = f"{' '.join(parts)}, {built.bytes / 1e6:.0f} MB"
    print(f"{line}, {built.record.quality.verdict.words()}" if built.record else line)
