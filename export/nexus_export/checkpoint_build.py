"""Build a group's networks from a checkpoint, a published one or the user's own."""

import importlib
from functools import partial
from pathlib import Path

from nexus_export.artifacts import CHECKPOINT_KEY, LICENCE_KEY, SOURCE_KEY
from nexus_export.build import Built, build_networks
from nexus_export.downloads.checkpoints import PublishedCheckpoint
from nexus_export.errors import BuildError
from nexus_export.families.registry import REGISTRY, locate
from nexus_export.files import Report
from nexus_export.networks import NETWORKS, Precision, Target
from nexus_export.quality.evaluator import Evaluator
from nexus_export.quality.photos import read_photos


def build_checkpoint(
    group: str,
    name: str,
    precision: Precision,
    repository: Path,
    cache: Path,
    photos: Path,
    report: Report,
    target: Target = "cpu",
) -> list[Built]:
    """Build the networks of `group`, one of `REGISTRY`, and put them in place together; see `build.build_networks`.

    `name` is that of a published checkpoint, which is fetched if need be, or the path of a file or folder.

    Raises ModuleNotFoundError if the group needs torch and it is not installed, BuildError if the repository cannot
    be written, CheckpointError if the checkpoint is not there, incomplete, or not one that the pipelines can serve,
    QualityError if a network is not good enough or there are no photos to measure it on, SourceError if a file could
    not be fetched.
    """
    require_torch(group)
    evaluator = Evaluator(read_photos(photos), cache)
    path, published = locate(name, group, cache, report)
    report("opening the checkpoint")
    origin, side_files = origin_of(path, published), REGISTRY[group].side_files
    finish = partial(side_files.write, path, repository, cache, report) if side_files else lambda: None
    exports = REGISTRY[group].exports(path)
    return build_networks(exports, precision, repository, origin, evaluator, report, finish, target)


def require_torch(group: str) -> None:
    """Raise ModuleNotFoundError before a download if the group needs torch and it is not installed."""
    if REGISTRY[group].needs_torch:
        importlib.import_module("torch")


def origin_of(path: Path, published: PublishedCheckpoint | None) -> dict[str, str]:
    """An artifact's metadata: a published checkpoint's name and licence, or the name of the user's file."""
    known = published.name if published else path.resolve().name
    licence = published.licence if published else "its own licence"
    return {CHECKPOINT_KEY: known, SOURCE_KEY: f"checkpoint {known}", LICENCE_KEY: licence}


def group_of(names: list[str]) -> str:
    """The group that `build --checkpoint` was given. Raises BuildError unless `names` is the name of one."""
    if len(names) == 1 and names[0] in NETWORKS and names[0] not in REGISTRY:
        group = NETWORKS[names[0]].group
        raise BuildError(f"a checkpoint holds a whole group; {names[0]} is part of {group}, name that.")
    if len(names) != 1 or names[0] not in REGISTRY:
        raise BuildError(f"a checkpoint holds a whole group; name one of {', '.join(REGISTRY)}.")
    return names[0]
