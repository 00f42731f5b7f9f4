"""Published checkpoints in a cache of files: fetched when asked for, verified on every use.

A file with a pinned checksum is compared with it on every use. One without, trust on first use: its checksum is
reported and recorded beside it when it is fetched, and compared with that record from then on.
"""

import os
import shutil
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from nexus_export.downloads.checkpoints import Archive, PublishedCheckpoint, PublishedFile
from nexus_export.downloads.http import download
from nexus_export.errors import SourceError
from nexus_export.files import Report, sha256_of, translate_os_errors


def fetch(
    checkpoint: PublishedCheckpoint,
    cache: Path,
    report: Report,
    others: Iterable[PublishedCheckpoint] = (),
) -> Path:
    """Return the checkpoint's file in `cache`, or its folder where it has several, fetched unless there and intact.

    Each file enters the cache whole and verified, one by one: those that were fetched stay when a later one fails. A
    folder is laid out as diffusers expects. A file that `others` have too is linked from their folders in the cache.

    Raises SourceError if a file cannot be fetched, is not the one that is pinned, or cannot be stored.
    """
    others = tuple(others)
    folder = cache / checkpoint.name
    for file in checkpoint.files:
        _fetch_file(file, folder, _same_elsewhere(file, checkpoint, others, cache), report)
    return folder if len(checkpoint.files) > 1 else folder / checkpoint.files[0].path


def _fetch_file(file: PublishedFile, folder: Path, copies: Iterable[Path], report: Report) -> None:
    """Make sure that `file` lies in `folder` as it should, from one of `copies` or its publisher otherwise."""
    path = folder / file.path
    pinned = file.sha256 or _recorded(path)
    if path.is_file() and pinned is not None:
        report(f"verifying {file.path}")
        if sha256_of(path) == pinned:
            return
    if pinned is not None and any(_linked(copy, path, pinned) for copy in copies):
        return
    if file.archive is not None:
        _unpack(file, file.archive, path, report)
    else:
        download(file.url, path, pinned, file.bytes, report)
    if pinned is None:
        sha256 = sha256_of(path)
        with translate_os_errors(folder, SourceError, "--cache"):
            _record(path).write_text(f"{sha256}\n")
        report(f"{file.path} has no published checksum; its SHA-256 is {sha256}, compared from now on")


def _same_elsewhere(
    file: PublishedFile, checkpoint: PublishedCheckpoint, others: Iterable[PublishedCheckpoint], cache: Path
) -> list[Path]:
    """Paths where the cache may hold this file for another checkpoint: the two of SDXL differ in the VAE alone."""
    return [
        cache / other.name / same.path
        for other in others
        for same in other.files
        if other.name != checkpoint.name and file.sha256 is not None and same.sha256 == file.sha256
    ]


def _unpack(file: PublishedFile, archive: Archive, path: Path, report: Report) -> None:
    packed, part = path.with_name(f"{path.name}.zip"), path.with_name(f"{path.name}.unpacked")
    download(file.url, packed, archive.sha256, archive.bytes, report)
    report(f"unpacking {file.path}")
    with translate_os_errors(path.parent, SourceError, "--cache"):
        with (
            zipfile.ZipFile(packed) as opened,
            opened.open(archive.member) as source,
            part.open("wb") as target,
        ):
            shutil.copyfileobj(source, target)
        if sha256_of(part) != file.sha256:
            part.unlink()
            raise SourceError(f"{path.name} was damaged on the disk while it was unpacked; run this again.")
        part.replace(path)
        packed.unlink()


def _linked(copy: Path, path: Path, sha256: str) -> bool:
    """Whether `copy` is the file and could be linked to `path`, on a file system that knows links."""
    if not copy.is_file() or sha256_of(copy) != sha256:
        return False
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        os.link(copy, path)
        return True
    return False


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _recorded(path: Path) -> str | None:
    return _record(path).read_text().strip() if _record(path).is_file() else None
