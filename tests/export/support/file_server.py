"""An HTTP server on loopback that serves files as well, or as badly, as a test wants."""

import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Site:
    """The server's files, its faults, and the requests that it received."""

    files: dict[str, bytes] = field(default_factory=dict)  # by path, "/name"
    etag: str = '"one"'
    ranges: bool = True  # whether it honours Range
    redirects: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)  # to answer with first, one a request
    drop_after: list[int] = field(
        default_factory=list
    )  # bytes of a body before the connection breaks, one a request
    surplus_length: int = 0  # bytes that Content-Length adds to a body's own
    requests: list[dict[str, str]] = field(default_factory=list)  # the headers of each
    served: int = 0  # bytes of bodies it set out to send
    url: str = ""


class FileServer(ThreadingHTTPServer):
    """Serves a `Site` until it is closed."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.site = Site(url=f"http://127.0.0.1:{self.server_port}")
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def handle_error(self, *_: Any) -> None:
        """Say nothing of clients that went away, as an interrupted one does."""

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def log_message(self, *_: Any) -> None:
        """Say nothing on stderr."""

    def do_GET(self) -> None:
        site = self.server.site
        site.requests.append({key.lower(): value for key, value in self.headers.items()})
        if self.path in site.redirects:
            self.send_response(302)
            self.send_header("Location", site.redirects[self.path])
            self.end_headers()
        elif statuses := site.statuses.get(self.path):
            self.send_error(statuses.pop(0))
        elif self.path not in site.files:
            self.send_error(404)
        else:
            self._send(site, site.files[self.path])

    def _send(self, site: Site, content: bytes) -> None:
        begin, wanted = 0, self.headers.get("Range")
        current = self.headers.get("If-Range", site.etag) == site.etag
        if wanted and site.ranges and current:
            begin = int(wanted.removeprefix("bytes=").rstrip("-"))
            if begin >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        body = content[begin:]
        self.send_header("ETag", site.etag)
        self.send_header("Content-Length", str(len(body) + site.surplus_length))
        self.end_headers()
        if site.drop_after:
            body = body[: site.drop_after.pop(0)]
        site.served += len(body)  # before the first byte, so that every byte that a client has is counted
        self.wfile.write(body)
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_WR)
        self.close_connection = True
