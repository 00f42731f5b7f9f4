"""Runs a tritonserver, and restarts it whenever it no longer serves."""

import asyncio
import contextlib
import signal
import tempfile
from pathlib import Path

import tritonclient.grpc.aio as grpc
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.utils import InferenceServerException

from nexus_server.drain import wait_until_drained
from nexus_server.errors import ServerError
from nexus_server.health import Prober
from nexus_server.installation import Installation
from nexus_server.log import log
from nexus_server.repository import Repository, assemble, drop_models
from nexus_server.stub_watch import StubWatch
from nexus_server.tritonserver import BROKEN_TIMEOUT_S, DRAIN_TIMEOUT_S, Settings, Tritonserver

REQUEST_TIMEOUT_S = 5.0
CHANNEL = [
    # With its default backoff gRPC notices the end of a slow start up to 15 s late.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 500),
    # tritonclient's own default, lost when options are given: a probe's answer may exceed gRPC's 4 MB.
    ("grpc.max_receive_message_length", -1),
]
POLL_INTERVAL_S = 0.5
# After this many failed starts in a row, without a single success before, the supervisor gives up.
MAX_FAILED_STARTS = 3
# The least time between two starts. It doubles with every restart, and is the first again after a long run. A server
# that ran for longer than the delay is restarted at once.
FIRST_RESTART_DELAY_S = 1.0
MAX_RESTART_DELAY_S = 30.0
LONG_RUN_S = 60.0


class Supervisor:
    """Starts `installation` on the assembled repository at `models`, and keeps it serving until a signal."""

    def __init__(
        self, installation: Installation, models: Path, repository: Repository, settings: Settings
    ) -> None:
        self._installation = installation
        self._models = models
        self._repository = repository
        self._settings = settings
        self._stopping = asyncio.Event()
        self._has_served = False
        self._failed_starts = 0

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then let requests in flight finish.

        Raises ServerError if tritonserver does not start.
        """
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._stopping.set)
        restart_delay_s = FIRST_RESTART_DELAY_S
        while True:
            started = loop.time()
            reason = await self._run_once()
            if self._stopping.is_set():
                return
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS and not self._has_served:
                raise ServerError(f"tritonserver does not start ({reason}); its messages above say why.")
            run_s = loop.time() - started
            if run_s > LONG_RUN_S:
                restart_delay_s = FIRST_RESTART_DELAY_S
            log(f"restarting: {reason}")
            await self._sleep(restart_delay_s - run_s)
            if self._stopping.is_set():
                return
            restart_delay_s = min(2 * restart_delay_s, MAX_RESTART_DELAY_S)

    async def _run_once(self) -> str:
        """Run a tritonserver until it no longer serves; return why, or "" when stopping."""
        try:
            server = await Tritonserver.start(self._installation, self._models, self._settings)
        except OSError as error:
            return f"{self._installation.binary} cannot be run: {error.strerror}"
        watch = StubWatch(server.pid)
        try:
            async with grpc.InferenceServerClient(self._address, channel_args=CHANNEL) as client:
                if not await self._is_ready(server, watch, client):
                    return server.ended or "it did not become ready"
                loaded = await self._loaded(client)
                if not self._has_served and self._drop_unloaded(loaded):
                    return "some models did not load"
                if not loaded:
                    return "no model could be loaded"
                self._announce(loaded)
                return await self._watch(server, watch, Prober(client, loaded, watch))
        except Exception as error:
            # A server may die at any step, and the supervisor must survive whatever error that causes. The event loop
            # may notice the death a moment later.
            await self._sleep(POLL_INTERVAL_S)
            return server.ended or f"{type(error).__name__}: {error}"
        finally:
            timeout_s: float = BROKEN_TIMEOUT_S
            if self._stopping.is_set():
                await wait_until_drained(
                    f"http://{self._host}:{self._settings.metrics_port}/metrics", DRAIN_TIMEOUT_S
                )
                timeout_s = DRAIN_TIMEOUT_S + 5
            await server.stop(watch.stubs, timeout_s)

    async def _is_ready(
        self, server: Tritonserver, watch: StubWatch, client: grpc.InferenceServerClient
    ) -> bool:
        """Wait until `server` takes requests; False if it ends, the time is over, or the supervisor stops."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.start_timeout_s
        while loop.time() < deadline and not server.ended and not self._stopping.is_set():
            watch.refresh()
            with contextlib.suppress(InferenceServerException):
                if await client.is_server_ready(client_timeout=1):
                    watch.refresh()
                    return True
            await self._sleep(0.2)
        return False

    async def _loaded(self, client: grpc.InferenceServerClient) -> dict[str, ModelConfig]:
        """The models that Triton could load."""
        return {
            name: config
            for name, config in self._repository.ready.items()
            if await client.is_model_ready(name, client_timeout=REQUEST_TIMEOUT_S)
        }

    def _drop_unloaded(self, loaded: dict[str, ModelConfig]) -> bool:
        """Assemble the next run without the models that did not load; False if all did, or none would be left.

        Triton answers for such a model that it is unavailable, and a client would retry.
        """
        if not (unloaded := self._repository.ready.keys() - loaded.keys()):
            return False
        degraded = drop_models(self._repository, unloaded)
        if not degraded.ready:
            return False
        for message in degraded.messages():
            log(message)
        self._repository = degraded
        self._models = assemble(
            degraded.folder, degraded.ready, Path(tempfile.mkdtemp(dir=self._models.parent))
        )
        self._failed_starts = 0
        return True

    def _announce(self, loaded: dict[str, ModelConfig]) -> None:
        """Log what is served and where, and what did not load."""
        self._has_served = True
        settings = self._settings
        for name in self._repository.ready:
            if name not in loaded:
                log(f"{name} did not load; the server's messages above say why")
        log(
            f"serving {', '.join(loaded)} at grpc {settings.host}:{settings.grpc_port}, "
            f"http {settings.host}:{settings.http_port}, metrics {settings.host}:{settings.metrics_port}"
        )

    async def _watch(self, server: Tritonserver, watch: StubWatch, prober: Prober) -> str:
        """Return why the server must be restarted, or "" when stopping."""
        probing = asyncio.create_task(prober.watch())
        try:
            while not self._stopping.is_set():
                if server.ended:
                    return server.ended
                if failures := watch.failures():
                    return "; ".join(failures)
                if probing.done():
                    return await probing
                await self._sleep(POLL_INTERVAL_S)
            return ""
        finally:
            probing.cancel()

    async def _sleep(self, seconds: float) -> None:
        """Sleep until the time is over or a signal stops the supervisor."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    @property
    def _host(self) -> str:
        return "127.0.0.1" if self._settings.host == "0.0.0.0" else self._settings.host

    @property
    def _address(self) -> str:
        return f"{self._host}:{self._settings.grpc_port}"
