"""Checks that every model answers a real inference.

Triton itself reports a model as ready when its process has died (server#8604).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import tritonclient.grpc.aio as grpc
from grpc.aio import AioRpcError
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from nexus_server.repository import OPTIONAL, networks_of, value_of
from nexus_server.stub_watch import StubWatch

# A model is hung if its probe is unanswered and its processes are idle for this long.
HANG_S = 30
# CPU used in that time by an idle process: measured, 0.01 s in a stub and 0.15 s in tritonserver, which answers the
# supervisor's own requests. A busy process uses as much within a second.
IDLE_CPU_S = 0.3
# How often the state of a model is polled while its probe is in flight.
POLL_INTERVAL_S = 1.0
# An inference has to notice a dead process within 10 s. A pipeline's probe costs next to nothing (0.01 s of CPU in 20 s
# for all four; the requests show in its metrics). A network's is real work, 0.7 s of a core for U2-Net and more for
# IS-Net, whose input is ten times as large, so it runs less often: `StubWatch` notices a dead process within a second
# anyway, and a pipeline that waits for a hung network hangs too.
PIPELINE_INTERVAL_S = 5.0
NETWORK_INTERVAL_S = 30.0
STATISTICS_TIMEOUT_S = 2.0
# Size of a probe's variable dimensions: small, and a multiple of every network's modulus.
PROBE_DIM = 64


class Prober:
    """Sends a real inference to every pipeline, and to every network that has answered no request since the last check.

    A pipeline gets empty inputs: its own code answers INVALID_ARGUMENT, after its calls of networks in flight have
    ended, which shows that it and they run. A network gets zeros. Two kinds of models are not
    probed: those with a response cache, which would answer every probe but the first, while a new image each time would
    cost more than the probe is worth; and those whose parameter `probe` is "off", because only their artifact knows
    which shapes it takes. Pipelines are probed before networks, whose work would otherwise count as the pipelines' own.
    """

    def __init__(
        self, client: grpc.InferenceServerClient, models: dict[str, ModelConfig], watch: StubWatch
    ) -> None:
        self._client = client
        self._watch = watch
        probed = {name: config for name, config in models.items() if _can_be_probed(config)}
        self._pipelines = {name: config for name, config in probed.items() if config.backend == "python"}
        self._networks = {name: config for name, config in probed.items() if config.backend != "python"}
        self._answered: dict[str, int | None] = {}

    async def watch(self) -> str:
        """Probe until a model no longer serves; return its name and the reason."""
        loop = asyncio.get_running_loop()
        networks_due = loop.time()
        while True:
            failures = await self.failures(self._pipelines)
            if not failures and loop.time() >= networks_due:
                failures = await self.failures(self._networks)
                networks_due = loop.time() + NETWORK_INTERVAL_S
            if failures:
                return "; ".join(failures)
            await asyncio.sleep(PIPELINE_INTERVAL_S)

    async def failures(self, models: dict[str, ModelConfig]) -> list[str]:
        """One sentence for each of `models` that does not serve; empty if all do."""
        reasons = await asyncio.gather(*(self._check(name, config) for name, config in models.items()))
        return [reason for reason in reasons if reason]

    async def _check(self, name: str, config: ModelConfig) -> str | None:
        """Probe `name` until it answers the probe or any other request; return why it does not serve, or None.

        CPU time distinguishes a long run from a hang: a busy model uses some, its own or that of the network it waits
        for. Polls are counted, not seconds, so that after a suspend of the machine no model appears hung.
        """
        if await self._has_answered(name, config):
            return None
        lists = ("networks", *OPTIONAL)
        processes = {name, *(network for parameter in lists for network in networks_of(config, parameter))}
        used_s, idle_polls = self._watch.cpu_s(processes), 0
        probe = asyncio.create_task(self._probe(name, config))
        try:
            while idle_polls * POLL_INTERVAL_S < HANG_S:
                await asyncio.wait({probe}, timeout=POLL_INTERVAL_S)
                if probe.done():
                    return await probe
                if await self._has_answered(name, config):
                    return None
                idle_polls += 1
                now_s = self._watch.cpu_s(processes)
                if now_s - used_s > IDLE_CPU_S:
                    used_s, idle_polls = now_s, 0
            return f"{name} has neither answered nor worked for {HANG_S} s"
        finally:
            probe.cancel()

    async def _probe(self, name: str, config: ModelConfig) -> str | None:
        """Send a probe, again as long as it says nothing about the model; return why `name` does not serve, or None."""
        while True:
            try:
                await self._infer(name, config)
            except InferenceServerException as error:
                status, message = str(error.status()), str(error.message())
                is_full = (
                    "UNAVAILABLE" in status
                )  # a full queue does not show the state of the model behind it
                # A stopped stub may only pause; `StubWatch` decides by how long it stays stopped.
                if is_full or ("Stub process" in message and self._watch.is_stopped(name)):
                    await asyncio.sleep(POLL_INTERVAL_S)
                    continue
                if "Stub process" in message or "INTERNAL" in status:
                    return f"{name} does not serve ({message.splitlines()[0][:120]})"
            # Any other error, usually INVALID_ARGUMENT, comes from a working model.
            with contextlib.suppress(InferenceServerException):
                self._answered[name] = await self._count(name)
            return None

    async def _infer(self, name: str, config: ModelConfig) -> None:
        """Send a probe and wait for its answer. Raises InferenceServerException."""
        if not config.model_transaction_policy.decoupled:
            await self._client.infer(name, probe_inputs(config))
            return

        async def requests() -> AsyncIterator[dict[str, Any]]:
            yield {"model_name": name, "inputs": probe_inputs(config)}

        # Errors come as text: as gRPC statuses (`triton_grpc_error`), each would leave an error in Triton's log.
        try:
            async for _, error in self._client.stream_infer(requests()):
                if error:
                    raise error
        except AioRpcError as error:
            # tritonclient translates connection errors of unary calls only
            raise InferenceServerException(error.details(), str(error.code())) from None

    async def _has_answered(self, name: str, config: ModelConfig) -> bool:
        """Whether `name` has answered a request with success since the last call of this method."""
        # Triton counts a pipeline's request as soon as the pipeline has accepted it, so the probe itself would count.
        if config.backend == "python":
            return False
        try:
            count = await self._count(name)
        except InferenceServerException:
            return False
        before, self._answered[name] = self._answered.get(name, 0), count
        return count != before

    async def _count(self, name: str) -> int:
        statistics = await self._client.get_inference_statistics(name, client_timeout=STATISTICS_TIMEOUT_S)
        return int(statistics.model_stats[0].inference_stats.success.count)


def _can_be_probed(config: ModelConfig) -> bool:
    return not config.response_cache.enable and value_of(config, "probe") != "off"


def probe_inputs(config: ModelConfig) -> list[grpc.InferInput]:
    """The smallest inputs that `config` accepts: zeros and empty strings, without the optional inputs."""
    inputs = []
    for item in config.input:
        if item.optional:
            continue
        shape = [1, *(PROBE_DIM if dim < 0 else dim for dim in item.dims)]
        datatype = DataType.Name(item.data_type).removeprefix("TYPE_").replace("STRING", "BYTES")
        dtype = triton_to_np_dtype(datatype)
        array: np.ndarray[Any, Any] = (
            np.full(shape, b"", dtype) if dtype is np.object_ else np.zeros(shape, dtype)
        )
        tensor = grpc.InferInput(item.name, shape, datatype)
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    return inputs
