"""One life of a tritonserver: its command line, its process, and an end that leaves nothing behind."""

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

from nexus_server.processes import below, is_alive
from nexus_server.triton import Triton

DRAIN_TIMEOUT_S = 30
# What a broken server gets to finish requests of its healthy models; with a dead stub it never exits by itself.
BROKEN_TIMEOUT_S = 3
# For the kernel to end what was killed.
_KILL_TIMEOUT_S = 5
# glibc gives every few threads a heap of their own, and what one photo freed there serves no other: with two heaps a
# process, the memory after many photos is a tenth less. And it raises the size from which memory goes back when freed
# to that of the largest ever freed: with that size fixed (bytes), the peak after a few hundred requests of all
# operations, eight clients among them, is 2.0 GB instead of 2.7.
_ALLOCATOR = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": "1048576",
    "MALLOC_TRIM_THRESHOLD_": "1048576",
}
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Settings:
    """Where to listen (an IPv4 address), how much memory the response cache may take, how long a start may."""

    host: str
    grpc_port: int
    http_port: int
    metrics_port: int
    cache_bytes: int
    start_timeout_s: float


class Tritonserver:
    """A running tritonserver; `start` makes one."""

    def __init__(self, process: asyncio.subprocess.Process, shm_prefix: str) -> None:
        self._process = process
        self._shm_prefix = shm_prefix
        self.pid = process.pid

    @classmethod
    async def start(cls, triton: Triton, models: Path, settings: Settings) -> Tritonserver:
        """Start `triton` on the assembled repository at `models`."""
        # The pid alone does not tell containers apart that share /dev/shm: each has a process 1.
        shm_prefix = f"nexus_{os.getpid()}_{secrets.token_hex(4)}_"
        # Have the kernel end tritonserver when the supervisor is killed, so that nothing is left behind (prctl(2)).
        # Looked up here: between fork and exec another thread's lock on the loader could never be released.
        prctl = ctypes.CDLL(None).prctl
        process = await asyncio.create_subprocess_exec(
            *_command(triton, models, settings, shm_prefix),
            env={**_ALLOCATOR, **os.environ, **triton.environment},
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which then drains the server
            preexec_fn=functools.partial(prctl, _PR_SET_PDEATHSIG, signal.SIGTERM),
        )
        return cls(process, shm_prefix)

    @property
    def ended(self) -> str:
        """How the process ended; "" while it runs."""
        status = self._process.returncode
        return "" if status is None else f"tritonserver exited with status {status}"

    async def stop(self, stubs: Iterable[psutil.Process], timeout_s: float) -> None:
        """End it, within `timeout_s` or by force; the processes below it, `stubs` among them; its shared memory."""
        # The stubs of a server that is dead are known from before alone, the latest of a failed start from now alone.
        doomed = {*stubs, *below(self.pid)}
        with contextlib.suppress(ProcessLookupError):  # it may have ended, or end by itself at any moment
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), timeout_s)
            except asyncio.TimeoutError:
                self._process.kill()
        await self._process.wait()
        for process in doomed:
            # psutil does not mistake another process for this one when its pid is used again
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        # The kernel takes a moment to end what was killed; until then it holds ports, memory and the GPU's.
        deadline = time.monotonic() + _KILL_TIMEOUT_S
        while (alive := set(filter(is_alive, doomed))) and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        if alive:
            pids = ", ".join(str(process.pid) for process in alive)
            print(
                f"nexus-server: the kernel has not ended {pids} in {_KILL_TIMEOUT_S} s; going on", flush=True
            )
        for region in Path("/dev/shm").glob(f"{self._shm_prefix}*"):
            region.unlink(missing_ok=True)


def _command(triton: Triton, models: Path, settings: Settings, shm_prefix: str) -> list[str]:
    # A key nobody knows closes these protocols: nothing remote may load models, map memory or write files.
    closed = f"model-repository,shared-memory,trace,logging:nexus-closed={secrets.token_hex(16)}"
    return [
        str(triton.binary),
        f"--model-repository={models}",
        f"--backend-directory={triton.backends}",
        f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
        f"--cache-directory={triton.caches}",
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
