"""Files that appear whole or not at all, their checksums, and one sentence for a disk that refuses."""

import errno
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nexus_export.errors import BuildError, ExportError

# Called with each step that takes time, in a few words.
Report = Callable[[str], None]


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_file(path: Path, content: bytes | memoryview) -> None:
    """Write `content` to `path`, making its folder. Raises BuildError as `translate_os_errors` does."""
    part = part_of(path)
    with translate_os_errors(path.parent):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(content)
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise


def part_of(path: Path) -> Path:
    """Where a file is written before it is complete."""
    return path.with_name(f"{path.name}.part")


@contextmanager
def translate_os_errors(
    folder: Path, error_class: type[ExportError] = BuildError, option: str = "--out"
) -> Iterator[None]:
    """Raise `error_class` where the file system refuses to write below `folder`, which `option` names."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            message = f"the disk is full: free some space for {folder}, or name another folder with {option}."
        else:
            message = f"cannot write to {folder} ({error.strerror}); name another folder with {option}."
        raise error_class(message) from None
