"""The registry of groups. A new family is one folder, one line here and its networks in `networks`."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from nexus_export.downloads import cache as downloads_cache
from nexus_export.downloads.checkpoints import PublishedCheckpoint
from nexus_export.errors import CheckpointError
from nexus_export.families import diffusion, lama, sam, sam2, u2net
from nexus_export.families.group import Group
from nexus_export.files import Report

REGISTRY: Mapping[str, Group] = MappingProxyType(
    {group.name: group for family in (sam, sam2, lama, u2net, diffusion) for group in family.GROUPS}
)

CHECKPOINTS: Mapping[str, PublishedCheckpoint] = MappingProxyType(
    {checkpoint.name: checkpoint for group in REGISTRY.values() for checkpoint in group.published}
)


def published(name: str) -> PublishedCheckpoint | None:
    """The published checkpoint of this name or hub id, if there is one."""
    return CHECKPOINTS.get(name) or next((c for c in CHECKPOINTS.values() if c.hub == name), None)


def fetch(checkpoint: PublishedCheckpoint, cache: Path, report: Report) -> Path:
    """As `downloads.cache.fetch`; files that another published checkpoint shares are taken from its folder."""
    return downloads_cache.fetch(checkpoint, cache, report, CHECKPOINTS.values())


def locate(name: str, group: str, cache: Path, report: Report) -> tuple[Path, PublishedCheckpoint | None]:
    """The path of the checkpoint that a user named, for building `group`, and the checkpoint if it is published.

    `name` is a published one's name or hub id, which is fetched if need be, or a local path. Raises CheckpointError if
    nothing of that name is published or there, or if it is published for another group; SourceError if it could not
    be fetched.
    """
    found = published(name)
    if found is None:
        if Path(name).exists():
            return Path(name), None
        known = ", ".join(checkpoint.name for checkpoint in REGISTRY[group].published) or "none"
        raise CheckpointError(
            f"there is no file or folder {name}, and no published checkpoint of that name; give a path, or one of "
            f"those published for {group}: {known}."
        )
    if found.group != group:
        raise CheckpointError(
            f"{name} is a checkpoint of {found.group}, not of {group}; run: "
            f"nexus-export build {found.group} --checkpoint {name}"
        )
    return fetch(found, cache, report), found
