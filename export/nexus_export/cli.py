"""The command `nexus-export`: arguments and messages."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nexus_export.cli_options import (
    CACHE,
    REPOSITORY,
    Cache,
    Names,
    Out,
    Photos,
    needing_extras,
    parse_precision,
    parse_processor,
)
from nexus_export.compact import FACTS, RECIPES, State, build, choose_recipes, state, tiers_of
from nexus_export.diffusion.clip_vocabulary import read_published
from nexus_export.diffusion.fill_files import write_fill_files
from nexus_export.engines.command import engine_command
from nexus_export.errors import BuildError, ExportError
from nexus_export.fetching import fetch_command
from nexus_export.listing import list_command
from nexus_export.networks import TIERS, Precision, Processor, artifact, choose
from nexus_export.paths import PHOTOS
from nexus_export.progress import Progress
from nexus_export.quality.command import verify_command
from nexus_export.sources import CLIP_VOCABULARY, fetch

if TYPE_CHECKING:
    from nexus_export.build import Built

app = typer.Typer(
    help="Build the networks that the model repository serves, measure them, and compile them for a GPU.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command("build")
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
            help="What most weights are stored in; the rest is as each network's quality allows.",
        ),
    ] = "fp32",
    processor: Annotated[
        str,
        typer.Option(
            "--for",
            metavar="cpu|gpu",
            help="What they run on: a CPU gets INT8 only where it was measured quicker than FP32, else FP16.",
        ),
    ] = "cpu",
    photos: Photos = PHOTOS,
    out: Out = REPOSITORY,
    cache: Cache = CACHE,
) -> None:
    """Build networks into the model repository, each as 1/model.onnx; what is up to date is left alone.

    What is built from a checkpoint, or at a lower precision, is measured on photos first; what is not good enough does
    not replace what is there.
    """
    chosen, runs_on = parse_precision(precision), parse_processor(processor)
    with needing_extras():
        if checkpoint is not None:
            _build_checkpoint(networks or [], checkpoint, chosen, runs_on, photos, out, cache)
        else:
            _build_default(networks or [], chosen, runs_on, photos, out, cache)


app.command("verify")(verify_command)
app.command("fetch")(fetch_command)
app.command("list")(list_command)
app.command("engine")(engine_command)


@app.command("make-tiny")
def make_tiny_command(
    tier: Annotated[str, typer.Argument(metavar="sdxl|sd15")],
    folder: Annotated[Path, typer.Argument(help="Where to write the checkpoint.")],
    cache: Cache = CACHE,
) -> None:
    """Write a tiny checkpoint in diffusers' format: the real structure, random weights. It paints noise."""
    if tier not in TIERS:
        raise BuildError(f"there is no tiny checkpoint of {tier!r}; choose from {', '.join(TIERS)}.")
    with Progress(tier) as progress, needing_extras():
        from nexus_export.diffusion.tiny_checkpoint import write_tiny_checkpoint

        merges = read_published(fetch(CLIP_VOCABULARY, cache, progress.report))
        progress.report("writing the checkpoint")
        write_tiny_checkpoint(tier, folder, merges)
    print(f"{folder}: a tiny {tier} checkpoint of random weights")


def _build_default(
    names: list[str], precision: Precision, processor: Processor, photos: Path, out: Path, cache: Path
) -> None:
    from nexus_export.build import offered

    recipes = choose_recipes(names)
    for recipe in recipes:
        found = state(recipe, out, offered(recipe.network, precision, processor), processor)
        if found is State.UP_TO_DATE:
            print(f"{recipe.name}: up to date")
        elif found is State.CHECKPOINT:
            print(
                f"{recipe.name}: from a checkpoint, left alone (remove {artifact(recipe.name, out)} to undo)"
            )
        else:
            started = time.monotonic()
            with Progress(recipe.name) as progress:
                built = build(recipe, out, cache, progress.report, precision, photos, processor)
            _tell(built, precision, time.monotonic() - started)
    for tier in tiers_of(recipe.network for recipe in recipes):
        if State.CHECKPOINT not in {state(RECIPES[network.name], out) for network in choose([tier])}:
            with Progress(tier) as progress:
                write_fill_files(out, tier, FACTS[tier].read_text(), cache, progress.report)


def _build_checkpoint(
    names: list[str],
    checkpoint: str,
    precision: Precision,
    processor: Processor,
    photos: Path,
    out: Path,
    cache: Path,
) -> None:
    from nexus_export.checkpoint_build import build_checkpoint, family_of

    family = family_of(names)
    started = time.monotonic()
    with Progress(family) as progress:
        built = build_checkpoint(
            family, checkpoint, precision, out, cache, photos, progress.report, processor
        )
    for item in built:
        _tell(item, precision)
    print(f"{family}: built from {checkpoint} in {time.monotonic() - started:.1f} s")


def _tell(built: "Built", wanted: Precision, seconds: float | None = None) -> None:
    """One line of a network that was built."""
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


def main() -> None:
    """Run the command; what a user can act on is one line on stderr and exit code 1."""
    try:
        app()
    except ExportError as error:
        sys.exit(f"nexus-export: {error}")


if __name__ == "__main__":
    main()
