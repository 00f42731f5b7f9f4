"""Download large files over HTTP: resumed where they broke off, in place only once they are verified.

Proxies and certificates are those of Python's own client: HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE. A token in HF_TOKEN
goes to the Hugging Face hub alone, not to where the hub sends on to.
"""

import http.client
import os
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from nexus_export.errors import SourceError
from nexus_export.files import Report, sha256_of, translate_os_errors

HUB = "huggingface.co"
# A connection that brings no byte for so long is lost.
TIMEOUT_SECONDS = 30
# Waits between attempts that bring no byte.
BACKOFF_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0)
# Between two reports.
REPORT_SECONDS = 1.0

_BLOCK = 1 << 20
_MISSING, _REFUSED, _BUSY = {404, 410}, {401, 403}, {408, 425, 429, 500, 502, 503, 504}
_UNSATISFIABLE = 416


class _LostError(Exception):
    """The connection broke, or the server is busy: worth another attempt."""


def download(url: str, path: Path, sha256: str | None, size: int | None, report: Report) -> None:
    """Fetch `url` to `path`, which appears by a rename once it is whole and, where `sha256` is given, right.

    The bytes so far lie in `path` + ".part" and the next call continues them, after Ctrl-C too. A lost connection is
    retried up to five times in a row. `size` is the expected one in bytes, for the progress and the check of free
    space; `report` is called with the progress at most once a second.

    Raises SourceError if the server does not have the file or refuses it, the network fails, the checksum is wrong, or
    the file cannot be stored. Only a wrong checksum removes the partial file.
    """
    part = path.with_name(f"{path.name}.part")
    with translate_os_errors(path.parent, SourceError, "--cache"):
        path.parent.mkdir(parents=True, exist_ok=True)
        if sha256 is None:
            _discard(part)  # without a checksum old and new bytes cannot be matched
        resumed = _size(part) > 0
        _receive(url, part, size, report)
        if sha256 is not None:
            report(f"verifying {path.name}")
            if sha256_of(part) != sha256 and resumed:
                report(f"{path.name}: what was there from before does not fit; starting over")
                _discard(part)
                _receive(url, part, size, report)
            if (found := sha256_of(part)) != sha256:
                _discard(part)
                raise SourceError(
                    f"{urlsplit(url).hostname} served {path.name} with the SHA-256 {found[:12]}... where "
                    f"{sha256[:12]}... is pinned; do not use it, and check the network's proxy or mirror."
                )
        part.replace(path)
        _discard(part)


def _receive(url: str, part: Path, size: int | None, report: Report) -> None:
    """Fill `part` from `url`, from where it ends."""
    fruitless, furthest = 0, _size(part)
    while size is None or _size(part) != size:
        _check_space(part, size)
        try:
            return _receive_rest(url, part, size, report)
        except _LostError as lost:
            # Not "more than before": a server that lies about lengths could make it restart endlessly.
            fruitless = 0 if _size(part) > furthest else fruitless + 1
            furthest = max(furthest, _size(part))
            if fruitless > len(BACKOFF_SECONDS):
                raise SourceError(
                    f"{urlsplit(url).hostname} does not deliver {_title(part)} ({lost}); check the network and the "
                    "proxy settings, then run this again: it goes on from where it stopped."
                ) from None
            wait = BACKOFF_SECONDS[max(fruitless - 1, 0)]
            report(f"{_title(part)}: {lost}, trying again in {wait:.0f} s")
            time.sleep(wait)
    return None


def _receive_rest(url: str, part: Path, size: int | None, report: Report) -> None:
    """One connection: append the missing bytes to `part`, or start over if the server does not continue it."""
    with _open(url, part) as response:
        offset = _size(part) if _continues(response, part) else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else offset + int(length)
        _tag(part).write_text(response.headers.get("ETag", ""))
        meter = _Meter(_title(part), offset, total or size, report)
        with part.open("ab" if offset else "wb") as stream:
            while block := _read(response):
                stream.write(block)
                meter.add(len(block))
    if total is not None and _size(part) < total:
        raise _LostError("the connection broke off")


def _open(url: str, part: Path) -> http.client.HTTPResponse:
    request = urllib.request.Request(url, headers={"User-Agent": "nexus-export"})
    if offset := _size(part):
        request.add_header("Range", f"bytes={offset}-")
        tag = _tag(part).read_text() if _tag(part).is_file() else ""
        if tag.startswith('"'):  # a weak one is not allowed here
            request.add_header("If-Range", tag)
    if urlsplit(url).hostname == HUB and (token := os.environ.get("HF_TOKEN")):
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
        return response
    except urllib.error.HTTPError as error:
        error.close()
        _refuse(error.code, url, part)
    except urllib.error.URLError as error:
        _refuse_unreachable(error.reason, url)
    except (OSError, http.client.HTTPException) as error:
        raise _LostError(_cause(error)) from None


def _continues(response: http.client.HTTPResponse, part: Path) -> bool:
    content_range = response.headers.get("Content-Range", "")
    return response.status == http.HTTPStatus.PARTIAL_CONTENT and content_range.startswith(
        f"bytes {_size(part)}-"
    )


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(_BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise _LostError(_cause(error)) from None


def _refuse(status: int, url: str, part: Path) -> NoReturn:
    host, title = urlsplit(url).hostname, _title(part)
    if status in _BUSY:
        raise _LostError(f"the server answers {status}")
    if status == _UNSATISFIABLE:  # `part` is longer than the file
        _discard(part)
        raise _LostError("what was there from before is too long")
    if status in _MISSING:
        raise SourceError(
            f"{url} is not there any more ({status}); get {title} from elsewhere and give its path instead of a name."
        )
    if status in _REFUSED and host == HUB:
        raise SourceError(
            f"{host} refuses {title} ({status}); accept its licence on the model's page, set HF_TOKEN to a token of "
            "that account, and run this again."
        )
    raise SourceError(
        f"{host} refuses {title} ({status}); check the proxy settings, or get it from elsewhere and give its path "
        "instead of a name."
    )


def _refuse_unreachable(reason: object, url: str) -> NoReturn:
    host = urlsplit(url).hostname
    if isinstance(reason, ssl.SSLCertVerificationError):
        raise SourceError(
            f"the certificate of {host} is not trusted here; set SSL_CERT_FILE to the authorities of your network."
        )
    if isinstance(reason, socket.gaierror):
        raise SourceError(
            f"{host} cannot be found; check the network and HTTPS_PROXY, or give the path of a file instead of a name."
        )
    raise _LostError(_cause(reason))


def _cause(reason: object) -> str:
    return str(getattr(reason, "strerror", None) or reason or type(reason).__name__).rstrip(".").lower()


def _check_space(part: Path, size: int | None) -> None:
    missing, free = (size or 0) - _size(part), shutil.disk_usage(part.parent).free
    if missing > free:
        raise SourceError(
            f"{_title(part)} needs {missing / 1e9:.1f} GB more and {part.parent} has room for {free / 1e9:.1f}; free "
            "some space, or name another folder with --cache."
        )


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _tag(part: Path) -> Path:
    """Where the ETag of a partial download is kept."""
    return part.with_name(f"{part.name}.etag")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _tag(part).unlink(missing_ok=True)


def _title(part: Path) -> str:
    return part.name.removesuffix(".part")


class _Meter:
    """Reports progress: the share of the whole and the rate of this connection."""

    def __init__(self, title: str, done: int, total: int | None, report: Report) -> None:
        self._title, self._done, self._total, self._report = title, done, total, report
        self._begun = self._reported = time.monotonic()
        self._came = 0

    def add(self, count: int) -> None:
        self._came += count
        now = time.monotonic()
        if now - self._reported < REPORT_SECONDS:
            return
        self._reported = now
        rate = self._came / (now - self._begun) / 1e6
        done = (self._done + self._came) / 1e6
        share = f"{done:.0f} MB"
        if self._total:
            share = f"{100 * done * 1e6 / self._total:.0f} % of {self._total / 1e6:.0f} MB"
        self._report(f"downloading {self._title}: {share}, {rate:.1f} MB/s")
