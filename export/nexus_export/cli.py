"""The command `nexus-export`: arguments, progress and messages."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from nexus_export.compact import RECIPES, State, build, choose_recipes, state, tiers_of, tiny_facts
from nexus_export.diffusion.clip_vocabulary import read_published
from nexus_export.diffusion.fill_files import write_fill_files
from nexus_export.errors import BuildError, ExportError
from nexus_export.networks import TIERS, artifact, choose
from nexus_export.progress import Progress
from nexus_export.sources import CLIP_VOCABULARY, PinnedFile, fetch

app = typer.Typer(
    help="Build the networks that the model repository serves.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NETWORK]...", help="Which ones, sdxl and sd15 for four each; default: all."),
]
Checkpoint = Annotated[
    str | None,
    typer.Option(help="Build sdxl or sd15 from this folder or hub id, in diffusers' format, instead."),
]
Out = Annotated[Path, typer.Option("--out", help="The model repository.")]
Cache = Annotated[Path, typer.Option("--cache", help="Where downloaded files are kept.")]

_REPOSITORY = Path("model_repository")
_CACHE = Path("build/cache")


@app.command("build")
def build_command(
    networks: Names = None, checkpoint: Checkpoint = None, out: Out = _REPOSITORY, cache: Cache = _CACHE
) -> None:
    """Build networks into the model repository, each as 1/model.onnx; what is up to date is left alone."""
    if checkpoint is not None:
        _build_checkpoint(_tier(networks or []), checkpoint, out, cache)
        return
    recipes = choose_recipes(networks or [])
    for recipe in recipes:
        found = state(recipe, out)
        if found is State.UP_TO_DATE:
            print(f"{recipe.name}: up to date")
        elif found is State.CHECKPOINT:
            print(
                f"{recipe.name}: from a checkpoint, left alone (remove {artifact(recipe.name, out)} to undo)"
            )
        else:
            started = time.monotonic()
            with Progress(recipe.name) as progress:
                path = build(recipe, out, cache, progress.report)
            megabytes = path.stat().st_size / 1e6
            print(f"{recipe.name}: built in {time.monotonic() - started:.1f} s, {megabytes:.0f} MB")
    for tier in tiers_of(choose([recipe.name for recipe in recipes])):
        if State.CHECKPOINT not in {state(RECIPES[network.name], out) for network in choose([tier])}:
            with Progress(tier) as progress:
                write_fill_files(out, tier, tiny_facts(tier), cache, progress.report)


@app.command("make-tiny")
def make_tiny_command(
    tier: Annotated[str, typer.Argument(metavar="sdxl|sd15")],
    folder: Annotated[Path, typer.Argument(help="Where to write the checkpoint.")],
    cache: Cache = _CACHE,
) -> None:
    """Write a tiny checkpoint in diffusers' format: the real structure, random weights. It paints noise."""
    _tier([tier])
    with Progress(tier) as progress, _needing_torch():
        from nexus_export.diffusion.tiny_checkpoint import write_tiny_checkpoint

        merges = read_published(fetch(CLIP_VOCABULARY, cache, progress.report))
        progress.report("writing the checkpoint")
        write_tiny_checkpoint(tier, folder, merges)
    print(f"{folder}: a tiny {tier} checkpoint of random weights")


@app.command("fetch")
def fetch_command(networks: Names = None, cache: Cache = _CACHE) -> None:
    """Download the published files that networks are built from, and verify them."""
    recipes = choose_recipes(networks or [])
    files = {recipe.name: recipe.weights for recipe in recipes if isinstance(recipe.weights, PinnedFile)}
    tiers = tiers_of(choose([recipe.name for recipe in recipes]))
    for name, file in {**files, **dict.fromkeys(tiers, CLIP_VOCABULARY)}.items():
        with Progress(name) as progress:
            path = fetch(file, cache, progress.report)
        print(f"{name}: {path}")


@app.command("list")
def list_command(out: Out = _REPOSITORY) -> None:
    """Show every network: where its weights come from, their licence, and whether it is built."""
    table = Table("network", "weights", "licence", "state", box=None, pad_edge=False)
    for network in choose([]):
        recipe = RECIPES.get(network.name)
        if recipe is None:
            found = State.CHECKPOINT if artifact(network.name, out).is_file() else State.MISSING
        else:
            found = state(recipe, out)
        if recipe is None or found is State.CHECKPOINT:
            source, licence = "a checkpoint", "the checkpoint's"
        else:
            source, licence = recipe.source, recipe.licence
        table.add_row(network.name, source, licence, found.value)
    Console().print(table)


def _tier(names: list[str]) -> str:
    if len(names) != 1 or names[0] not in TIERS:
        raise BuildError(f"a checkpoint holds a whole group; name one of {', '.join(TIERS)}.")
    return names[0]


def _build_checkpoint(tier: str, checkpoint: str, out: Path, cache: Path) -> None:
    started = time.monotonic()
    with Progress(tier) as progress, _needing_torch():
        from nexus_export.diffusion.build import build_checkpoint

        paths = build_checkpoint(tier, checkpoint, out, cache, progress.report)
    # Large weights lie beside the graph.
    size = sum(file.stat().st_size for path in paths for file in path.parent.glob(f"{path.name}*"))
    print(f"{', '.join(path.parents[1].name for path in paths)}:")
    print(f"built from {checkpoint} in {time.monotonic() - started:.1f} s, {size / 1e6:.0f} MB")


@contextmanager
def _needing_torch() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise BuildError(
            f"this needs {error.name}, which is not in this environment; run: pip install 'nexus-export[torch]'"
        ) from None


def main() -> None:
    """Run the command; what a user can act on is one line on stderr and exit code 1."""
    try:
        app()
    except ExportError as error:
        sys.exit(f"nexus-export: {error}")


if __name__ == "__main__":
    main()
