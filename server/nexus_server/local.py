"""A server for the duration of a `with` block, as the demo, the tests and the benchmarks use it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from nexus_server.errors import ServerError
from nexus_server.supervisor import CHANNEL

# Above the two drain timeouts in a row, of the pipelines and then of Triton itself; see supervisor.py.
STOP_TIMEOUT_S = 75.0


class LocalServer:
    """Runs `nexus-server` as a process of its own on free loopback ports, its output in `log`.

    Usage:

        with LocalServer(Path("model_repository"), Path("build/server.log")) as server:
            client = Client(server.url)

    Entering waits until the server is ready. Raises ServerError with the end of the log if it does not become ready.
    """

    def __init__(self, models: Path, log: Path, *options: str) -> None:
        self._grpc_port, self._http_port, self._metrics_port = free_ports(3)
        self._command = [
            *(sys.executable, "-m", "nexus_server", "--models", str(models)),
            *("--grpc-port", str(self._grpc_port), "--http-port", str(self._http_port)),
            *("--metrics-port", str(self._metrics_port), *options),
        ]
        self.log = log
        self.url = f"127.0.0.1:{self._grpc_port}"
        self.http_url = f"http://127.0.0.1:{self._http_port}"
        self.metrics_url = f"http://127.0.0.1:{self._metrics_port}/metrics"

    def __enter__(self) -> LocalServer:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                self._command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        try:
            self.wait_ready(300)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def wait_ready(self, timeout_s: float) -> None:
        """Return as soon as the server takes requests. Raises ServerError after `timeout_s` or if it exits."""
        deadline = time.monotonic() + timeout_s
        with contextlib.closing(grpc.InferenceServerClient(self.url, channel_args=CHANNEL)) as client:
            while time.monotonic() < deadline and self.process.poll() is None:
                with contextlib.suppress(InferenceServerException):
                    if client.is_server_ready(client_timeout=1):
                        return
                time.sleep(0.1)
        tail = "\n".join(self.log.read_text().splitlines()[-5:])
        raise ServerError(f"the server did not become ready; the end of {self.log} is:\n{tail}")

    def stop(self) -> None:
        """Drain and end the server, as SIGTERM does in production."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def free_ports(count: int) -> list[int]:
    """Distinct TCP ports on loopback that are free at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in sockets]
