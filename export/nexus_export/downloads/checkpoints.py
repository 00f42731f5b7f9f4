"""Published checkpoints: where their authors put them, and the size and SHA-256 of every file.

The families list theirs. Each sum was found in public texts that state it for this very file: pins of other projects,
large-file records of the hub; most in several, those of SDXL's text encoders, VAE and configurations in one project's.
For a few small configurations none was found: they are pinned by their repository's revision alone, see `cache`.
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Archive:
    """The zip file that a file is published in."""

    member: str  # the file's path in it
    sha256: str
    bytes: int


@dataclass(frozen=True)
class PublishedFile:
    """One file of a checkpoint, identified by its content."""

    path: str  # in the checkpoint's folder
    url: str  # the file's, or its archive's
    sha256: str | None  # None: not published
    bytes: int | None
    archive: Archive | None = None


@dataclass(frozen=True)
class PublishedCheckpoint:
    """A checkpoint that `build` accepts by name."""

    name: str
    group: str  # the networks that are built from it, see `networks`
    files: tuple[PublishedFile, ...]
    licence: str
    note: str
    hub: str = ""  # its id on the Hugging Face hub, which stands for the name too

    @property
    def bytes(self) -> int:
        """Its size on the disk, without small files of unknown size."""
        return sum(file.bytes or 0 for file in self.files)


def from_hub(
    repository: str, revision: str, listing: str, folder: str = "", variant: str = ""
) -> Iterator[PublishedFile]:
    """The files of a repository of the Hugging Face hub, for a checkpoint's `folder`.

    `listing` has a line a file: sha256, path, bytes; "-" is unknown. Of weights the file with `variant` in its name is
    taken, and stored under the name without, where diffusers and our code look.
    """
    for line in listing.strip().splitlines():
        sha256, path, size = line.split()
        stem, _, suffix = path.rpartition(".")
        source = f"{stem}{variant}.{suffix}" if suffix == "safetensors" else path
        yield PublishedFile(
            folder + path,
            f"https://huggingface.co/{repository}/resolve/{revision}/{source}",
            None if sha256 == "-" else sha256,
            None if size == "-" else int(size),
        )


def single_file(
    name: str, group: str, url: str, sha256: str, size: int, note: str, licence: str = "Apache-2.0"
) -> PublishedCheckpoint:
    """A checkpoint of one file, under the name that its URL ends in."""
    file = PublishedFile(url.rsplit("/", 1)[1], url, sha256, size)
    return PublishedCheckpoint(name, group, (file,), licence, note)
