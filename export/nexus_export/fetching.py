"""The command `nexus-export fetch`."""

from typing import Annotated

import typer

from nexus_export import checkpoint_cache
from nexus_export.checkpoints import CHECKPOINTS
from nexus_export.cli_options import CACHE, Cache
from nexus_export.compact import choose_recipes, tiers_of
from nexus_export.progress import Progress
from nexus_export.sources import CLIP_VOCABULARY, PinnedFile, fetch


def fetch_command(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Published checkpoints (see list --checkpoints), or networks of the default profile; default: "
            "all of those.",
        ),
    ] = None,
    cache: Cache = CACHE,
) -> None:
    """Download published files and verify them; what is there and intact is left alone."""
    wanted = names or []
    for name in [name for name in wanted if _is_checkpoint(name)]:
        with Progress(name) as progress:
            path = checkpoint_cache.fetch(CHECKPOINTS[name], cache, progress.report)
        print(f"{name}: {path}")
    networks = [name for name in wanted if not _is_checkpoint(name)]
    if wanted and not networks:
        return
    recipes = choose_recipes(networks)
    files = {recipe.name: recipe.weights for recipe in recipes if isinstance(recipe.weights, PinnedFile)}
    tiers = tiers_of(recipe.network for recipe in recipes)
    for name, file in {**files, **dict.fromkeys(tiers, CLIP_VOCABULARY)}.items():
        with Progress(name) as progress:
            path = fetch(file, cache, progress.report)
        print(f"{name}: {path}")


def _is_checkpoint(name: str) -> bool:
    return name in CHECKPOINTS
