"""SDXL and SD 1.5 inpainting: checkpoints in diffusers' format as networks, one group a tier of generative fill."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from nexus_export.downloads.packages import CLIP_VOCABULARY
from nexus_export.exported import ExportedNetwork
from nexus_export.families.diffusion import default, published
from nexus_export.families.diffusion.tier_files import write_tier_files
from nexus_export.families.group import Group, SideFiles
from nexus_export.files import Report


def _exports(path: Path, tier: str) -> Iterator[ExportedNetwork]:
    from nexus_export.families.diffusion.checkpoint import exports, open_checkpoint

    return exports(open_checkpoint(path, tier))


def _write_side_files(
    checkpoint: Path | None, repository: Path, cache: Path, report: Report, tier: str
) -> None:
    if checkpoint is None:
        config = default.CONFIGS[tier].read_text()
    else:
        from nexus_export.families.diffusion.checkpoint import open_checkpoint
        from nexus_export.families.diffusion.tier_config import tier_config

        config = tier_config(open_checkpoint(checkpoint, tier)).text()
    write_tier_files(repository, tier, config, cache, report)


GROUPS = tuple(
    Group(
        tier,
        partial(_exports, tier=tier),
        checkpoints,
        recipes,
        SideFiles(partial(_write_side_files, tier=tier), CLIP_VOCABULARY),
    )
    for tier, checkpoints, recipes in (
        ("sdxl", published.SDXL, default.SDXL_RECIPES),
        ("sd15", published.SD15, default.SD15_RECIPES),
    )
)
