"""Downloads against a real HTTP server: resumed to the byte, and nothing wrong or half ever taken for a file."""

import errno
import hashlib
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from nexus_export.downloads import http
from nexus_export.downloads.http import download
from nexus_export.errors import SourceError

from tests.export.support.file_server import FileServer, Site

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SIZE = len(CONTENT)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(http, "BACKOFF_SECONDS", (0.0, 0.0, 0.0))
    monkeypatch.setattr(http, "REPORT_SECONDS", 0.0)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    server = FileServer()
    server.site.files["/weights.pt"] = CONTENT
    yield server.site
    server.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "weights.pt"


def _download(site: Site, path: Path, sha256: str | None = SHA256, size: int | None = SIZE) -> list[str]:
    steps: list[str] = []
    download(f"{site.url}/weights.pt", path, sha256, size, steps.append)
    return steps


def _refusal(site: Site, path: Path, sha256: str | None = SHA256, size: int | None = SIZE) -> str:
    with pytest.raises(SourceError) as caught:
        _download(site, path, sha256, size)
    assert not path.exists()
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text


def _write_part(path: Path, content: bytes, etag: str) -> Path:
    path.parent.mkdir(parents=True)
    part = path.with_name("weights.pt.part")
    part.write_bytes(content)
    part.with_name("weights.pt.part.etag").write_text(etag)
    return part


def test_whole_file_arrives_with_progress_and_leaves_nothing_beside_it(site: Site, path: Path) -> None:
    steps = _download(site, path)
    assert path.read_bytes() == CONTENT
    assert [item.name for item in path.parent.iterdir()] == ["weights.pt"]
    assert steps[-1] == "verifying weights.pt"
    assert steps[-2].startswith("downloading weights.pt: 100 % of 3 MB, ")
    assert steps[-2].endswith(" MB/s")


def test_resume_fetches_only_what_is_missing(site: Site, path: Path) -> None:
    site.drop_after = [1_000_000, 500_000]
    steps = _download(site, path)
    assert path.read_bytes() == CONTENT
    assert site.served == SIZE  # not one byte twice
    assert [request.get("range") for request in site.requests] == [None, "bytes=1000000-", "bytes=1500000-"]
    assert {request["if-range"] for request in site.requests[1:]} == {site.etag}
    assert "weights.pt: the connection broke off, trying again in 0 s" in steps


def test_a_later_call_goes_on_where_the_first_stopped(site: Site, path: Path) -> None:
    _write_part(path, CONTENT[:2_000_000], site.etag)
    _download(site, path)
    assert path.read_bytes() == CONTENT
    assert site.served == SIZE - 2_000_000


def test_a_server_without_ranges_starts_over(site: Site, path: Path) -> None:
    site.ranges = False
    site.drop_after = [1_000_000]
    _download(site, path)
    assert path.read_bytes() == CONTENT
    assert site.served == SIZE + 1_000_000


def test_another_version_on_the_server_starts_over(site: Site, path: Path) -> None:
    _write_part(path, b"x" * 1000, '"zero"')
    _download(site, path)
    assert path.read_bytes() == CONTENT
    assert site.served == SIZE


def test_what_does_not_fit_from_before_is_fetched_anew_once(site: Site, path: Path) -> None:
    _write_part(path, b"x" * 1000, site.etag)
    steps = _download(site, path)
    assert path.read_bytes() == CONTENT
    assert "weights.pt: what was there from before does not fit; starting over" in steps


@pytest.mark.parametrize("length", [SIZE, SIZE + 10])
def test_a_part_as_long_as_the_file_or_longer(site: Site, path: Path, length: int) -> None:
    _write_part(path, (CONTENT + b"x" * 10)[:length], site.etag)
    _download(site, path)
    assert path.read_bytes() == CONTENT
    assert len(site.requests) == (0 if length == SIZE else 2)


def test_wrong_bytes_are_kept_out(site: Site, path: Path) -> None:
    site.files["/weights.pt"] = CONTENT[:-1] + b"x"
    assert "served weights.pt with the SHA-256 " in _refusal(site, path)
    assert list(path.parent.iterdir()) == []


def test_a_server_that_always_breaks_off_is_given_up_and_its_bytes_kept(site: Site, path: Path) -> None:
    site.files["/weights.pt"], site.surplus_length = CONTENT[:1000], 500
    text = _refusal(site, path)
    assert text.startswith(
        "127.0.0.1 does not deliver weights.pt (the connection broke off); check the network"
    )
    assert path.with_name("weights.pt.part").read_bytes() == CONTENT[:1000]


def test_a_short_file_is_never_whole(site: Site, path: Path) -> None:
    site.files["/weights.pt"] = CONTENT[:1000]  # complete by the server's Content-Length
    assert "SHA-256" in _refusal(site, path)


def test_a_busy_server_is_asked_again(site: Site, path: Path) -> None:
    site.statuses["/weights.pt"] = [503, 429]
    assert "weights.pt: the server answers 503, trying again in 0 s" in _download(site, path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, "is not there any more"),
        (403, "check the proxy settings, or get it from elsewhere"),
        (400, "refuses"),
    ],
)
def test_what_the_server_refuses_is_not_asked_again(
    site: Site, path: Path, status: int, message: str
) -> None:
    site.statuses["/weights.pt"] = [status] * 9
    text = _refusal(site, path)
    assert message in text
    assert f"({status})" in text
    assert len(site.requests) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_repository_asks_for_a_token(
    site: Site, path: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "HUB", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    site.statuses["/weights.pt"] = [status]
    assert "accept its licence on the model's page, set HF_TOKEN" in _refusal(site, path)


def test_the_token_goes_to_the_hub_and_no_further(
    site: Site, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "HUB", "localhost")
    monkeypatch.setenv("HF_TOKEN", "secret")
    site.redirects["/model"] = f"{site.url}/weights.pt"
    download(f"{site.url.replace('127.0.0.1', 'localhost')}/model", path, SHA256, SIZE, lambda _: None)
    assert path.read_bytes() == CONTENT
    assert [request.get("authorization") for request in site.requests] == ["Bearer secret", None]


def test_a_redirect_keeps_the_range(site: Site, path: Path) -> None:
    _write_part(path, CONTENT[:2_000_000], site.etag)
    site.redirects["/model"] = f"{site.url}/weights.pt"
    download(f"{site.url}/model", path, SHA256, SIZE, lambda _: None)
    assert site.served == SIZE - 2_000_000


def test_offline_is_said_at_once(site: Site, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert _refusal(site, path).startswith("127.0.0.1 cannot be found; check the network and HTTPS_PROXY")


def test_a_server_that_is_not_there(site: Site, path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        site.url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    assert "does not deliver weights.pt (connection refused); check the network" in _refusal(site, path)


def test_ctrl_c_keeps_what_has_arrived(site: Site, path: Path) -> None:
    def interrupt(step: str) -> None:
        if step.startswith("downloading"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(f"{site.url}/weights.pt", path, SHA256, SIZE, interrupt)
    assert not path.exists()
    arrived = path.with_name("weights.pt.part").stat().st_size
    assert 0 < arrived < SIZE
    site.served = 0
    _download(site, path)
    assert path.read_bytes() == CONTENT
    assert site.served == SIZE - arrived


def test_too_little_room_is_said_before_a_byte_comes(
    site: Site, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(path.parents[1])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    assert _refusal(site, path, size=5_000_000_000).startswith("weights.pt needs 5.0 GB more and ")
    assert site.requests == []


@pytest.mark.parametrize(
    ("fault", "message"),
    [(errno.ENOSPC, "the disk is full: free some space"), (errno.EROFS, "name another folder with --cache")],
)
def test_a_cache_that_cannot_be_written(
    site: Site, path: Path, monkeypatch: pytest.MonkeyPatch, fault: int, message: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(Path, "open", fail)
    assert message in _refusal(site, path)


def test_without_a_checksum_nothing_is_resumed(site: Site, path: Path) -> None:
    _write_part(path, b"x" * 1000, site.etag)
    _download(site, path, sha256=None)
    assert path.read_bytes() == CONTENT
    assert site.served == SIZE
