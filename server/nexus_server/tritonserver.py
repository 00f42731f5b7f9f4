"""One run of a tritonserver: its command line, its process, and a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import os
import secrets
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from nexus_server.installation import Installation
from nexus_server.log import log
from nexus_server.process import descendants, is_alive

DRAIN_TIMEOUT_S = 30
# Time for a broken server to finish the requests of its healthy models; with a dead stub it never exits by itself.
BROKEN_TIMEOUT_S = 3
# Time for the kernel to end killed processes.
_KILL_TIMEOUT_S = 5
# glibc gives every few threads a heap of their own, and memory freed in one heap cannot be used by another: with two
# heaps a process, memory after many photos is a tenth less. glibc also raises the size from which freed memory returns
# to the kernel up to the largest block ever freed: with that size fixed (bytes), the peak after a few hundred requests
# of all operations, with eight clients at once, is 2.0 GB instead of 2.7.
_ALLOCATOR = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": "1048576",
    "MALLOC_TRIM_THRESHOLD_": "1048576",
}
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Settings:
    """The IPv4 address and ports to listen on, the size of the response cache, and the time limit of a start."""

    host: str
    grpc_port: int
    http_port: int
    metrics_port: int
    cache_bytes: int
    start_timeout_s: float


class Tritonserver:
    """A running tritonserver, made by `start`."""

    def __init__(self, process: asyncio.subprocess.Process, shm_prefix: str) -> None:
        self._process = process
        self._shm_prefix = shm_prefix
        self.pid = process.pid

    @classmethod
    async def start(cls, installation: Installation, models: Path, settings: Settings) -> Tritonserver:
        """Start the server of `installation` on the assembled repository at `models`. Raises OSError."""
        # The pid alone is not unique among containers that share /dev/shm: each has a process 1.
        shm_prefix = f"nexus_{os.getpid()}_{secrets.token_hex(4)}_"
        # The kernel ends tritonserver when the supervisor is killed, so that no process is left behind (prctl(2)).
        # Looked up here because between fork and exec another thread's lock on the loader would never be released.
        prctl = ctypes.CDLL(None).prctl
        process = await asyncio.create_subprocess_exec(
            *_command(installation, models, settings, shm_prefix),
            env={**_ALLOCATOR, **os.environ, **installation.environment},
            start_new_session=True,  # Ctrl-C reaches only the supervisor, which then drains the server
            preexec_fn=functools.partial(prctl, _PR_SET_PDEATHSIG, signal.SIGTERM),
        )
        return cls(process, shm_prefix)

    @property
    def ended(self) -> str:
        """How the process ended, "" while it runs."""
        status = self._process.returncode
        return "" if status is None else f"tritonserver exited with status {status}"

    async def stop(self, stubs: Iterable[psutil.Process], timeout_s: float) -> None:
        """End the server, by force after `timeout_s`, and all processes below it; remove its shared memory.

        `stubs` are the processes below it that the caller knows.
        """
        # A dead server's stubs are only in the earlier snapshot; those of a failed start only in a fresh scan.
        to_kill = {*stubs, *descendants(self.pid)}
        with contextlib.suppress(ProcessLookupError):  # it may have ended already, or end at any moment
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), timeout_s)
            except asyncio.TimeoutError:
                self._process.kill()
        await self._process.wait()
        for process in to_kill:
            # psutil refuses to signal a process that reuses the pid
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        # Until the kernel has ended a killed process, it holds its ports and its memory, on the GPU as well.
        deadline = time.monotonic() + _KILL_TIMEOUT_S
        while (alive := set(filter(is_alive, to_kill))) and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        if alive:
            pids = ", ".join(str(process.pid) for process in alive)
            log(f"the kernel has not ended {pids} within {_KILL_TIMEOUT_S} s; going on")
        for region in Path("/dev/shm").glob(f"{self._shm_prefix}*"):
            region.unlink(missing_ok=True)


def _command(installation: Installation, models: Path, settings: Settings, shm_prefix: str) -> list[str]:
    # A random key closes these protocols: no remote caller may load models, map memory or write files.
    closed = f"model-repository,shared-memory,trace,logging:nexus-closed={secrets.token_hex(16)}"
    return [
        str(installation.binary),
        f"--model-repository={models}",
        f"--backend-directory={installation.backends}",
        f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
        f"--cache-directory={installation.caches}",
        f"--cache-config=local,size={settings.cache_bytes}",
        "--model-control-mode=none",
        "--disable-auto-complete-config",
        # A model that cannot load must not keep the others from serving; the supervisor then reports it.
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
