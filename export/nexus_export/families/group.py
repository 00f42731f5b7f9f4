"""How the networks of one group are built: from a checkpoint, and for the default profile."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nexus_export.downloads.checkpoints import PublishedCheckpoint
from nexus_export.downloads.packages import PinnedFile
from nexus_export.exported import ExportedNetwork
from nexus_export.families.recipe import Recipe
from nexus_export.files import Report


@dataclass(frozen=True)
class SideFiles:
    """Files that pipelines read beside a group's networks.

    `write` takes the checkpoint's folder (None: the default profile), the model repository, the cache and a report;
    `packaged` is the file that it fetches.
    """

    write: Callable[[Path | None, Path, Path, Report], None]
    packaged: PinnedFile


@dataclass(frozen=True)
class Group:
    """The networks of `networks.GROUPS` that come out of one checkpoint, and how they are built."""

    name: str
    # From a checkpoint's file or folder; each network is exported when it is asked for. Raises CheckpointError if the
    # checkpoint is incomplete, or not one that the pipelines can serve.
    exports: Callable[[Path], Iterator[ExportedNetwork]]
    published: tuple[PublishedCheckpoint, ...]
    # One a network; none: the group is built from a checkpoint alone.
    recipes: tuple[Recipe, ...] = ()
    side_files: SideFiles | None = None
    needs_torch: bool = True
