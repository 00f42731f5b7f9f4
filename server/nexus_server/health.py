"""Does every model answer a real inference?

Triton itself reports a model ready whose process has died (server#8604).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import tritonclient.grpc.aio as grpc
from grpc.aio import AioRpcError
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from nexus_server.processes import StubWatch
from nexus_server.repository import OPTIONAL, networks_of, value_of

# A model is hung when a probe of it is unanswered and none of its processes works for so long.
HANG_S = 30
# What waiting costs in that time: measured, 0.01 s of CPU in a stub and 0.15 s in tritonserver, which answers all the
# supervisor's questions. A process at work uses as much within a second.
IDLE_CPU_S = 0.3
# How often a model is looked at whose probe is under way.
LOOK_S = 1.0
# A dead process has to be noticed within 10 s by an inference. A pipeline's probe costs next to nothing (0.01 s of CPU
# in 20 s for all four; the requests show in its metrics). A network's is real work, 0.7 s of a core for U2-Net and more
# for IS-Net, whose input is ten times as large, so it comes less often: `StubWatch` sees a death within a second
# anyhow, and who waits for a hung network hangs too.
PIPELINES_EVERY_S = 5.0
NETWORKS_EVERY_S = 30.0
STATISTICS_TIMEOUT_S = 2.0
# Variable dimensions of a probe: small, and a multiple of every network's modulus.
PROBE_DIM = 64


class Prober:
    """Sends a real inference to every model that has answered none since the last look.

    A pipeline gets empty inputs: that its own code answers INVALID_ARGUMENT shows that it runs, and generative_fill
    answers once the networks' calls that it has under way have ended. A network gets zeros. A model with a response
    cache gets none: its second probe would be answered by the cache, and a new image each time would cost more than
    the probe is worth. Nor does one whose parameter `probe` is "off", because only its artifact knows the shapes that
    it takes. Pipelines come before networks, whose work would otherwise pass for the pipelines' own.
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
        """Probe until a model no longer serves, and return which and why."""
        loop = asyncio.get_running_loop()
        networks_due = loop.time()
        while True:
            failures = await self.failures(self._pipelines)
            if not failures and loop.time() >= networks_due:
                failures = await self.failures(self._networks)
                networks_due = loop.time() + NETWORKS_EVERY_S
            if failures:
                return "; ".join(failures)
            await asyncio.sleep(PIPELINES_EVERY_S)

    async def failures(self, models: dict[str, ModelConfig]) -> list[str]:
        """One sentence for each of `models` that does not serve; empty when all is well."""
        found = await asyncio.gather(*(self._look(name, config) for name, config in models.items()))
        return [sentence for sentence in found if sentence]

    async def _look(self, name: str, config: ModelConfig) -> str | None:
        """Probe `name` until it answers, the probe or anyone else, or neither answers nor works for HANG_S.

        The kernel tells long work from none: a busy model uses CPU, its own or that of the network it waits for.
        Looks are counted, not seconds, so that a machine that slept does not wake to hung models.
        """
        if await self._has_answered(name, config):
            return None
        lists = ("networks", *OPTIONAL)
        processes = {name, *(network for parameter in lists for network in networks_of(config, parameter))}
        used_s, idle_looks = self._watch.cpu_s(processes), 0
        probe = asyncio.create_task(self._probe(name, config))
        try:
            while idle_looks * LOOK_S < HANG_S:
                await asyncio.wait({probe}, timeout=LOOK_S)
                if probe.done():
                    return await probe
                if await self._has_answered(name, config):
                    return None
                idle_looks += 1
                now_s = self._watch.cpu_s(processes)
                if now_s - used_s > IDLE_CPU_S:
                    used_s, idle_looks = now_s, 0
            return f"{name} has neither answered nor worked for {HANG_S} s"
        finally:
            probe.cancel()

    async def _probe(self, name: str, config: ModelConfig) -> str | None:
        """Why `name` does not serve; None when it does."""
        while True:
            try:
                await self._infer(name, config)
            except InferenceServerException as error:
                status, message = str(error.status()), str(error.message())
                if "UNAVAILABLE" in status:  # a full queue, which says nothing of the model behind it
                    await asyncio.sleep(LOOK_S)
                    continue
                if "Stub process" in message and self._watch.is_stopped(name):
                    await asyncio.sleep(
                        LOOK_S
                    )  # a pause, or a hang: the watch tells them apart by their length
                    continue
                if "Stub process" in message or "INTERNAL" in status:
                    return f"{name} does not serve ({message.splitlines()[0][:120]})"
            # anything else, INVALID_ARGUMENT above all, is the answer of a model at work
            with contextlib.suppress(InferenceServerException):
                self._answered[name] = await self._count(name)
            return None

    async def _infer(self, name: str, config: ModelConfig) -> None:
        """Send a probe and take its answer; raises InferenceServerException."""
        if not config.model_transaction_policy.decoupled:
            await self._client.infer(name, probe_inputs(config))
            return

        async def requests() -> AsyncIterator[dict[str, Any]]:
            yield {"model_name": name, "inputs": probe_inputs(config)}

        # Errors come as text: asked for as statuses (`triton_grpc_error`), each would leave an error in Triton's log.
        try:
            async for _, error in self._client.stream_infer(requests()):
                if error:
                    raise error
        except AioRpcError as error:
            # of the connection, which tritonclient translates for single answers alone
            raise InferenceServerException(error.details(), str(error.code())) from None

    async def _has_answered(self, name: str, config: ModelConfig) -> bool:
        """Whether `name` has answered a request with success since it was last asked."""
        # Triton counts a request of a decoupled model as soon as the model has taken it: the probe itself, say.
        if config.model_transaction_policy.decoupled:
            return False
        try:
            count = await self._count(name)
        except InferenceServerException:  # not known
            return False
        before, self._answered[name] = self._answered.get(name, 0), count
        return count != before

    async def _count(self, name: str) -> int:
        statistics = await self._client.get_inference_statistics(name, client_timeout=STATISTICS_TIMEOUT_S)
        return int(statistics.model_stats[0].inference_stats.success.count)


def _can_be_probed(config: ModelConfig) -> bool:
    return not config.response_cache.enable and value_of(config, "probe") != "off"


def probe_inputs(config: ModelConfig) -> list[grpc.InferInput]:
    """The smallest inputs that `config` admits: zeros, empty strings; optional inputs are left out."""
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
