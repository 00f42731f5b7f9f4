"""Build a group's networks from a checkpoint, a published one or the user's own. Needs torch."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nexus_export.artifacts import CHECKPOINT_KEY, LICENCE_KEY, SOURCE_KEY
from nexus_export.build import Built, build_networks
from nexus_export.checkpoint_cache import locate
from nexus_export.checkpoints import CHECKPOINTS
from nexus_export.errors import BuildError
from nexus_export.export import Export
from nexus_export.networks import GROUPS, NETWORKS, TIERS, Precision, Processor
from nexus_export.quality.evaluator import Evaluator
from nexus_export.quality.photos import read_photos
from nexus_export.sources import Report

#: What a checkpoint gives: groups, and networks that are alone in theirs.
FAMILIES = (*GROUPS, *(name for name in NETWORKS if not any(name in members for members in GROUPS.values())))


@dataclass(frozen=True)
class Opened:
    """A checkpoint's networks, and what is to be written beside them."""

    exports: Iterable[Export]
    finish: Callable[[], None] = lambda: None


def build_checkpoint(
    family: str,
    name: str,
    precision: Precision,
    repository: Path,
    cache: Path,
    photos: Path,
    report: Report,
    processor: Processor = "cpu",
) -> list[Built]:
    """Build the networks of `family`, one of `FAMILIES`, and put them in place together; see `build.build_networks`.

    `name` is that of a published checkpoint, which is fetched if need be, or the path of a file or folder.

    Raises:
        BuildError: the repository cannot be written.
        CheckpointError: the checkpoint is not there, incomplete, or not one that the pipelines can serve.
        QualityError: a network is not good enough, or there are no photos to tell by.
        SourceError: the checkpoint, or CLIP's vocabulary, could not be fetched.
    """
    exporter(family)  # who lacks torch is told so before a download
    evaluator = Evaluator(read_photos(photos), cache)
    path = locate(name, family, cache, report)
    report("opening the checkpoint")
    opened = open_family(family, path, repository, cache, report)
    return build_networks(
        opened.exports,
        precision,
        repository,
        origin_of(name, path),
        evaluator,
        report,
        opened.finish,
        processor,
    )


def origin_of(name: str, path: Path) -> dict[str, str]:
    """An artifact's metadata: a published checkpoint's name and licence, or the name of the user's file."""
    published = CHECKPOINTS.get(name) or next((c for c in CHECKPOINTS.values() if c.hub == name), None)
    known = published.name if published else path.resolve().name
    licence = published.licence if published else "its own licence"
    return {CHECKPOINT_KEY: known, SOURCE_KEY: f"checkpoint {known}", LICENCE_KEY: licence}


def open_family(family: str, path: Path, repository: Path, cache: Path, report: Report) -> Opened:
    """The networks of the checkpoint at `path`, each exported when it is asked for.

    Raises:
        CheckpointError: the checkpoint is incomplete, or not one that the pipelines can serve.
    """
    if family in TIERS:
        return _open_tier(family, path, repository, cache, report)
    return Opened(exporter(family)(path))


def exporter(family: str) -> Callable[[Path], Iterator[Export]]:
    """What gives the networks of `family` out of the checkpoint at a path, each exported when it is asked for.

    It raises CheckpointError where the checkpoint is incomplete, or not one that the pipelines can serve.

    Raises:
        ModuleNotFoundError: the family needs torch, which is not installed.
    """
    if family in TIERS:
        from nexus_export.diffusion.checkpoint import exports as tier_exports

        return partial(tier_exports, tier=family)
    if family == "sam":
        from nexus_export.sam.checkpoint import exports as sam_exports

        return sam_exports
    if family == "sam2":
        from nexus_export.sam2.checkpoint import exports as sam2_exports

        return sam2_exports
    if family == "lama":
        from nexus_export.lama.checkpoint import exports as lama_exports

        return lama_exports
    from nexus_export.u2net import exports as u2net_exports

    return partial(u2net_exports, name=family)


def _open_tier(tier: str, path: Path, repository: Path, cache: Path, report: Report) -> Opened:
    from nexus_export.diffusion.checkpoint import exports_of, open_checkpoint
    from nexus_export.diffusion.facts import tier_facts
    from nexus_export.diffusion.fill_files import write_fill_files

    checkpoint = open_checkpoint(str(path), tier)
    facts = tier_facts(checkpoint)
    return Opened(
        exports_of(checkpoint), partial(write_fill_files, repository, tier, facts.text(), cache, report)
    )


def family_of(names: list[str]) -> str:
    """The family that these names are.

    Raises:
        BuildError: they are none, or not one.
    """
    if len(names) == 1:
        for group, members in GROUPS.items():
            if names[0] in members:
                raise BuildError(
                    f"a checkpoint holds a whole group; {names[0]} is part of {group}, name that."
                )
    if len(names) != 1 or names[0] not in FAMILIES:
        raise BuildError(f"a checkpoint holds a whole group; name one of {', '.join(FAMILIES)}.")
    return names[0]
