"""Runs one tritonserver, and runs it again whenever it no longer serves."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import secrets
import signal
from dataclasses import dataclass
from pathlib import Path

import psutil
import tritonclient.grpc.aio as grpc
from tritonclient.utils import InferenceServerException

from nexus_server.errors import ServerError
from nexus_server.health import Prober, StubWatch
from nexus_server.repository import Repository
from nexus_server.triton import Triton

START_TIMEOUT_S = 300.0
DRAIN_TIMEOUT_S = 30
# What a broken server gets to finish requests of its healthy models; with a dead stub it never exits by itself.
BROKEN_TIMEOUT_S = 3
WATCH_INTERVAL_S = 0.5
PROBE_INTERVAL_S = 5.0
# A server that dies this often before it was once ready will not come up by itself.
MAX_FAILED_STARTS = 3


@dataclass(frozen=True)
class Settings:
    """Where to listen and how much memory the response cache may take."""

    host: str
    grpc_port: int
    http_port: int
    metrics_port: int
    cache_bytes: int


class Supervisor:
    """Starts `triton` on the assembled repository at `models`, and keeps it serving until told to stop."""

    def __init__(self, triton: Triton, models: Path, repository: Repository, settings: Settings) -> None:
        self._triton = triton
        self._models = models
        self._repository = repository
        self._settings = settings
        self._stopping = asyncio.Event()
        self._shm_prefix = f"nexus_{os.getpid()}_"

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, which let requests in flight finish. Raises ServerError."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._stopping.set)
        failed_starts = 0
        while not self._stopping.is_set():
            was_ready, reason = await self._serve_once()
            if self._stopping.is_set():
                return
            failed_starts = 0 if was_ready else failed_starts + 1
            if failed_starts == MAX_FAILED_STARTS:
                raise ServerError(f"tritonserver does not start ({reason}); its messages above say why.")
            say(f"restarting: {reason}")

    async def _serve_once(self) -> tuple[bool, str]:
        """One life of a tritonserver: whether it was ever ready, and why it ended."""
        process = await asyncio.create_subprocess_exec(
            *self._command(),
            env={**os.environ, **self._triton.environment},
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which then drains the server
            preexec_fn=_die_with_parent,
        )
        client = grpc.InferenceServerClient(f"{_reachable(self._settings.host)}:{self._settings.grpc_port}")
        stubs: list[int] = []
        try:
            if not await self._ready(process, client):
                return (
                    False,
                    f"it exited with status {process.returncode}"
                    if process.returncode
                    else "it never got ready",
                )
            watch = StubWatch(process.pid)
            stubs = watch.pids
            await self._announce(client)
            return True, await self._watch(process, watch, Prober(client, self._repository.ready))
        finally:
            await client.close()
            await self._stop(process, stubs)

    async def _ready(self, process: asyncio.subprocess.Process, client: grpc.InferenceServerClient) -> bool:
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while asyncio.get_running_loop().time() < deadline and not self._stopping.is_set():
            if process.returncode is not None:
                return False
            with contextlib.suppress(InferenceServerException):
                if await client.is_server_ready(client_timeout=1):
                    return True
            await asyncio.sleep(0.2)
        return False

    async def _announce(self, client: grpc.InferenceServerClient) -> None:
        host = self._settings.host
        broken = [name for name in self._repository.ready if not await client.is_model_ready(name)]
        for name in broken:
            say(f"{name} did not load; the server's messages above say why")
        if len(broken) == len(self._repository.ready):
            raise ServerError("no model could be loaded; the server's messages above say why.")
        say(
            f"serving {', '.join(name for name in self._repository.ready if name not in broken)} "
            f"at grpc {host}:{self._settings.grpc_port}, http {host}:{self._settings.http_port}, "
            f"metrics {host}:{self._settings.metrics_port}"
        )

    async def _watch(self, process: asyncio.subprocess.Process, watch: StubWatch, prober: Prober) -> str:
        """Return why the server must be started anew, or "" when told to stop."""
        probing = asyncio.create_task(prober.failures())
        loop = asyncio.get_running_loop()
        due = loop.time() + PROBE_INTERVAL_S
        try:
            while not self._stopping.is_set():
                if process.returncode is not None:
                    return f"tritonserver exited with status {process.returncode}"
                if dead := watch.dead():
                    return f"a model's process died ({', '.join(dead)})"
                if probing.done():
                    if failures := probing.result():
                        return "; ".join(failures)
                    if loop.time() >= due:
                        probing = asyncio.create_task(prober.failures())
                        due = loop.time() + PROBE_INTERVAL_S
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), WATCH_INTERVAL_S)
            return ""
        finally:
            probing.cancel()

    async def _stop(self, process: asyncio.subprocess.Process, stubs: list[int]) -> None:
        """Drain when told to stop, else end the broken server quickly; leave no process and no shared memory."""
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(
                    process.wait(), DRAIN_TIMEOUT_S + 5 if self._stopping.is_set() else BROKEN_TIMEOUT_S
                )
            except asyncio.TimeoutError:
                process.kill()
                await process.wait()
        for pid in stubs:
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()
        for region in Path("/dev/shm").glob(f"{self._shm_prefix}*"):
            region.unlink(missing_ok=True)

    def _command(self) -> list[str]:
        settings = self._settings
        # A key nobody knows closes these protocols: nothing remote may load models, map memory or write files.
        closed = f"model-repository,shared-memory,trace,logging:nexus-closed={secrets.token_hex(16)}"
        return [
            str(self._triton.binary),
            f"--model-repository={self._models}",
            f"--backend-directory={self._triton.backends}",
            f"--backend-config=python,shm-region-prefix-name={self._shm_prefix}",
            f"--cache-directory={self._triton.caches}",
            f"--cache-config=local,size={settings.cache_bytes}",
            "--model-control-mode=none",
            "--disable-auto-complete-config",
            # One model that cannot load must not keep the others from serving; it is named when the server is ready.
            "--exit-on-error=false",
            "--strict-readiness=false",
            f"--grpc-address={settings.host}",
            f"--grpc-port={settings.grpc_port}",
            f"--http-address={settings.host}",
            f"--http-port={settings.http_port}",
            f"--metrics-address={settings.host}",
            f"--metrics-port={settings.metrics_port}",
            f"--grpc-restricted-protocol={closed}",
            f"--http-restricted-api={closed}",
            f"--exit-timeout-secs={DRAIN_TIMEOUT_S}",
            "--log-info=false",
            *([] if Path("/dev/nvidiactl").exists() else ["--allow-gpu-metrics=false"]),
        ]


def say(message: str) -> None:
    """One line of the supervisor's own."""
    print(f"nexus-server: {message}", flush=True)


def _reachable(host: str) -> str:
    return "127.0.0.1" if host == "0.0.0.0" else host


def _die_with_parent() -> None:
    """Have the kernel end tritonserver when the supervisor is killed, so that nothing is left behind (prctl(2))."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
