"""Runs one tritonserver, and runs it again whenever it no longer serves."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
from pathlib import Path

import tritonclient.grpc.aio as grpc
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.utils import InferenceServerException

from nexus_server.drain import drained
from nexus_server.errors import ServerError
from nexus_server.health import Prober
from nexus_server.processes import StubWatch
from nexus_server.repository import Repository, assemble, without
from nexus_server.triton import Triton
from nexus_server.tritonserver import BROKEN_TIMEOUT_S, DRAIN_TIMEOUT_S, Settings, Tritonserver

REQUEST_TIMEOUT_S = 5.0
CHANNEL = [
    # Left to itself gRPC waits ever longer between attempts to connect, and sees a slow start end up to 15 s late.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 500),
    # What tritonclient sets where no options are given: an answer to a probe may be larger than gRPC's 4 MB.
    ("grpc.max_receive_message_length", -1),
]
WATCH_INTERVAL_S = 0.5
# A server that dies this often before it was once ready will not come up by itself.
MAX_FAILED_STARTS = 3
# Starts are at least so far apart, twice as far each time; from the first distance again after a minute of life.
# A server that lived for longer than the distance is thus started anew at once.
FIRST_DISTANCE_S = 1.0
MAX_DISTANCE_S = 30.0
LONG_LIFE_S = 60.0


class Supervisor:
    """Starts `triton` on the assembled repository at `models`, and keeps it serving until told to stop."""

    def __init__(self, triton: Triton, models: Path, repository: Repository, settings: Settings) -> None:
        self._triton = triton
        self._models = models
        self._repository = repository
        self._settings = settings
        self._stopping = asyncio.Event()
        self._has_served = False
        self._failed_starts = 0

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, which let requests in flight finish. Raises ServerError."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._stopping.set)
        distance_s = FIRST_DISTANCE_S
        while True:
            started = loop.time()
            reason = await self._live()
            if self._stopping.is_set():
                return
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS and not self._has_served:
                raise ServerError(f"tritonserver does not start ({reason}); its messages above say why.")
            life_s = loop.time() - started
            if life_s > LONG_LIFE_S:
                distance_s = FIRST_DISTANCE_S
            say(f"restarting: {reason}")
            await self._pause(distance_s - life_s)
            if self._stopping.is_set():
                return
            distance_s = min(2 * distance_s, MAX_DISTANCE_S)

    async def _live(self) -> str:
        """One life of a tritonserver; why it ended, or "" when told to stop."""
        try:
            server = await Tritonserver.start(self._triton, self._models, self._settings)
        except OSError as error:
            return f"{self._triton.binary} cannot be run: {error.strerror}"
        watch = StubWatch(server.pid)
        try:
            async with grpc.InferenceServerClient(self._address, channel_args=CHANNEL) as client:
                if not await self._is_ready(server, watch, client):
                    return server.ended or "it never got ready"
                loaded = await self._loaded(client)
                if not self._has_served and self._reduce(loaded):
                    return "some models did not load"
                if not loaded:
                    return "no model could be loaded"
                self._announce(loaded)
                return await self._watch(server, watch, Prober(client, loaded, watch))
        except Exception as error:
            # A server may die at any step, and its supervisor outlives whatever that causes. The event loop may come
            # to know of the death a moment later.
            await self._pause(WATCH_INTERVAL_S)
            return server.ended or f"{type(error).__name__}: {error}"
        finally:
            timeout_s: float = BROKEN_TIMEOUT_S
            if self._stopping.is_set():
                await drained(f"http://{self._host}:{self._settings.metrics_port}/metrics", DRAIN_TIMEOUT_S)
                timeout_s = DRAIN_TIMEOUT_S + 5
            await server.stop(watch.stubs, timeout_s)

    async def _is_ready(
        self, server: Tritonserver, watch: StubWatch, client: grpc.InferenceServerClient
    ) -> bool:
        """Wait until `server` takes requests; False when it ends or the time does, or when told to stop."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.start_timeout_s
        while loop.time() < deadline and not server.ended and not self._stopping.is_set():
            watch.refresh()
            with contextlib.suppress(InferenceServerException):
                if await client.is_server_ready(client_timeout=1):
                    watch.refresh()
                    return True
            await self._pause(0.2)
        return False

    async def _loaded(self, client: grpc.InferenceServerClient) -> dict[str, ModelConfig]:
        """The models that Triton could load."""
        return {
            name: config
            for name, config in self._repository.ready.items()
            if await client.is_model_ready(name, client_timeout=REQUEST_TIMEOUT_S)
        }

    def _reduce(self, loaded: dict[str, ModelConfig]) -> bool:
        """Have the next life serve without what did not load in this one, if that is anything and leaves any.

        Triton says of such a model that it is unavailable, which a client takes for a passing fault.
        """
        if not (unloaded := self._repository.ready.keys() - loaded.keys()):
            return False
        reduced = without(self._repository, unloaded)
        if not reduced.ready:
            return False
        for sentence in reduced.sentences():
            say(sentence)
        self._repository = reduced
        self._models = assemble(
            reduced.folder, reduced.ready, Path(tempfile.mkdtemp(dir=self._models.parent))
        )
        self._failed_starts = 0
        return True

    def _announce(self, loaded: dict[str, ModelConfig]) -> None:
        """Say what is served and where, and what is not."""
        self._has_served = True
        settings = self._settings
        for name in self._repository.ready:
            if name not in loaded:
                say(f"{name} did not load; the server's messages above say why")
        say(
            f"serving {', '.join(loaded)} at grpc {settings.host}:{settings.grpc_port}, "
            f"http {settings.host}:{settings.http_port}, metrics {settings.host}:{settings.metrics_port}"
        )

    async def _watch(self, server: Tritonserver, watch: StubWatch, prober: Prober) -> str:
        """Return why the server must be started anew, or "" when told to stop."""
        probing = asyncio.create_task(prober.watch())
        try:
            while not self._stopping.is_set():
                if server.ended:
                    return server.ended
                if failures := watch.failures():
                    return "; ".join(failures)
                if probing.done():
                    return await probing
                await self._pause(WATCH_INTERVAL_S)
            return ""
        finally:
            probing.cancel()

    async def _pause(self, seconds: float) -> None:
        """Sleep, or less when told to stop."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    @property
    def _host(self) -> str:
        return "127.0.0.1" if self._settings.host == "0.0.0.0" else self._settings.host

    @property
    def _address(self) -> str:
        return f"{self._host}:{self._settings.grpc_port}"


def say(message: str) -> None:
    """One line of the supervisor's own."""
    print(f"nexus-server: {message}", flush=True)
