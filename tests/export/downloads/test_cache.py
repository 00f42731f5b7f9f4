"""Published checkpoints: how their files get into a cache and stay right there."""

import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from nexus_export.downloads import http
from nexus_export.downloads.cache import fetch
from nexus_export.downloads.checkpoints import Archive, PublishedCheckpoint, PublishedFile
from nexus_export.errors import SourceError

from tests.export.support.file_server import FileServer, Site


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(http, "BACKOFF_SECONDS", ())
    server = FileServer()
    yield server.site
    server.close()


def _publish(site: Site, name: str, contents: dict[str, bytes], group: str = "sdxl") -> PublishedCheckpoint:
    files = []
    for path, content in contents.items():
        site.files[f"/{name}/{path}"] = content
        files.append(PublishedFile(path, f"{site.url}/{name}/{path}", _sha256(content), len(content)))
    return PublishedCheckpoint(name, group, tuple(files), "Apache-2.0", "a test's")


def test_single_file_and_folder(site: Site, tmp_path: Path) -> None:
    single = _publish(site, "one", {"one.pt": b"weights"})
    assert fetch(single, tmp_path, lambda _: None).read_bytes() == b"weights"
    folder = fetch(
        _publish(site, "two", {"model_index.json": b"{}", "unet/config.json": b"[]"}), tmp_path, print
    )
    assert folder == tmp_path / "two"
    assert (folder / "unet" / "config.json").read_bytes() == b"[]"


def test_what_is_there_is_verified_and_not_fetched_again(site: Site, tmp_path: Path) -> None:
    checkpoint = _publish(site, "one", {"one.pt": b"weights"})
    path = fetch(checkpoint, tmp_path, lambda _: None)
    steps: list[str] = []
    fetch(checkpoint, tmp_path, steps.append)
    assert (len(site.requests), steps) == (1, ["verifying one.pt"])
    path.write_bytes(b"weighed")
    assert fetch(checkpoint, tmp_path, lambda _: None).read_bytes() == b"weights"
    assert len(site.requests) == 2


def test_files_before_a_failed_one_stay(site: Site, tmp_path: Path) -> None:
    checkpoint = _publish(site, "two", {"first": b"1", "second": b"2"})
    site.statuses["/two/second"] = [404]
    with pytest.raises(SourceError, match="/two/second is not there any more"):
        fetch(checkpoint, tmp_path, lambda _: None)
    fetch(checkpoint, tmp_path, lambda _: None)
    assert len(site.requests) == 3


def test_a_file_of_two_checkpoints_is_fetched_once(site: Site, tmp_path: Path) -> None:
    one = _publish(site, "one", {"unet": b"large", "vae": b"a"})
    two = _publish(site, "two", {"unet": b"large", "vae": b"b"})
    fetch(one, tmp_path, lambda _: None, (one, two))
    assert (fetch(two, tmp_path, lambda _: None, (one, two)) / "unet").read_bytes() == b"large"
    assert site.served == len(b"large" + b"a" + b"b")
    assert (tmp_path / "one" / "unet").samefile(tmp_path / "two" / "unet")


def test_without_a_published_checksum_the_first_one_counts(site: Site, tmp_path: Path) -> None:
    site.files["/config.json"] = b"{}"
    file = PublishedFile("config.json", f"{site.url}/config.json", None, None)
    checkpoint = PublishedCheckpoint("small", "sd15", (file,), "", "")
    steps: list[str] = []
    path = fetch(checkpoint, tmp_path, steps.append)
    assert steps[-1] == (
        f"config.json has no published checksum; its SHA-256 is {_sha256(b'{}')}, compared from now on"
    )
    path.unlink()
    site.files["/config.json"] = b"[]"
    with pytest.raises(SourceError, match="is pinned; do not use it"):
        fetch(checkpoint, tmp_path, lambda _: None)
    assert not path.exists()


def test_an_archive_is_verified_unpacked_and_removed(site: Site, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        opened.writestr("big/models/best.ckpt", b"weights")
        opened.writestr("big/config.yaml", b"run: me")
    content = packed.getvalue()
    site.files["/big.zip"] = content
    archive = Archive("big/models/best.ckpt", _sha256(content), len(content))
    file = PublishedFile("best.ckpt", f"{site.url}/big.zip", _sha256(b"weights"), 7, archive)
    checkpoint = PublishedCheckpoint("big", "lama", (file,), "", "")
    assert fetch(checkpoint, tmp_path, lambda _: None).read_bytes() == b"weights"
    assert [item.name for item in (tmp_path / "big").iterdir()] == ["best.ckpt"]
    fetch(checkpoint, tmp_path, lambda _: None)
    assert len(site.requests) == 1
