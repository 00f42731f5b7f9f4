"""The command `nexus-export make-tiny`."""

from pathlib import Path
from typing import Annotated

import typer

from nexus_export.cli.options import CACHE, Cache, explain_missing_extra, one_of
from nexus_export.cli.progress import Progress
from nexus_export.downloads.packages import CLIP_VOCABULARY, fetch
from nexus_export.families.diffusion.clip_vocabulary import read_published
from nexus_export.networks import TIERS


def make_tiny_command(
    tier: Annotated[str, typer.Argument(metavar="sdxl|sd15")],
    folder: Annotated[Path, typer.Argument(help="Where to write the checkpoint.")],
    cache: Cache = CACHE,
) -> None:
    """Write a tiny checkpoint in diffusers' format: the real structure, random weights. It paints noise."""
    one_of("tiny checkpoint of", tier, TIERS)
    with Progress(tier) as progress, explain_missing_extra():
        from nexus_export.families.diffusion.tiny_checkpoint import write_tiny_checkpoint

        merges = read_published(fetch(CLIP_VOCABULARY, cache, progress.report))
        progress.report("writing the checkpoint")
        write_tiny_checkpoint(tier, folder, merges)
    print(f"{folder}: a tiny {tier} checkpoint of random weights")
