"""Is the server serving? Two questions, since Triton itself reports a model ready whose process has died (server#8604).

`StubWatch` asks the kernel: has a process below tritonserver died? It notices within a second and costs nothing.
`Prober` asks Triton: does every model answer a real inference? It notices what hangs as well.
"""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import psutil
import tritonclient.grpc.aio as grpc
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

# A model is taken for hung when it answers no probe for so long, and nothing else meanwhile. A pipeline answers one
# execution at a time, so this is longer than any request that somebody still waits for (the client's deadline is 60 s).
PROBE_TIMEOUT_S = 90.0
# Variable dimensions of a probe: small, and a multiple of every network's modulus.
PROBE_DIM = 64

_DTYPES = {"TYPE_STRING": np.object_, "TYPE_FP32": np.float32, "TYPE_INT32": np.int32, "TYPE_UINT8": np.uint8}


class StubWatch:
    """Remembers the processes below a tritonserver and says which has died."""

    def __init__(self, pid: int) -> None:
        self._server = psutil.Process(pid)
        self._stubs = {process.pid: _label(process) for process in self._server.children(recursive=True)}

    @property
    def pids(self) -> list[int]:
        return list(self._stubs)

    def dead(self) -> list[str]:
        """The labels of the processes that are gone or zombies."""
        return [label for pid, label in self._stubs.items() if not _is_alive(pid)]


class Prober:
    """Sends a real inference to every model that has answered none since the last look.

    A pipeline gets empty inputs: that its own code answers INVALID_ARGUMENT shows that it runs. A network gets
    zeros. A model with a response cache is left to `StubWatch`: its second probe would be answered by the cache,
    and a new image each time would cost more than the probe is worth.
    """

    def __init__(self, client: grpc.InferenceServerClient, models: dict[str, ModelConfig]) -> None:
        self._client = client
        self._models = {name: config for name, config in models.items() if not config.response_cache.enable}
        self._answered = dict.fromkeys(self._models, 0)

    async def failures(self) -> list[str]:
        """One sentence for each model that does not serve; empty when all is well."""
        found = await asyncio.gather(*(self._look(name, config) for name, config in self._models.items()))
        return [sentence for sentence in found if sentence]

    async def _look(self, name: str, config: ModelConfig) -> str | None:
        answered, self._answered[name] = self._answered[name], await self._count(name)
        if self._answered[name] != answered:
            return None
        try:
            await self._client.infer(name, probe_inputs(config), client_timeout=PROBE_TIMEOUT_S)
        except InferenceServerException as error:
            status, message = str(error.status() or ""), str(error.message() or "")
            if "Stub process" in message or "INTERNAL" in status:
                return f"{name} does not serve ({message.splitlines()[0][:120]})"
            if "DEADLINE" in status and await self._count(name) == self._answered[name]:
                return f"{name} has answered nothing for {PROBE_TIMEOUT_S:g} s"
            # INVALID_ARGUMENT is a pipeline at work; UNAVAILABLE and others are a full queue or a busy model
        else:
            self._answered[name] = await self._count(name)
        return None

    async def _count(self, name: str) -> int:
        """How many requests `name` has answered with success."""
        try:
            statistics = await self._client.get_inference_statistics(name, client_timeout=PROBE_TIMEOUT_S)
        except InferenceServerException:
            return -1
        return int(statistics.model_stats[0].inference_stats.success.count)


def probe_inputs(config: ModelConfig) -> list[grpc.InferInput]:
    """The smallest inputs that `config` admits: zeros, empty strings; optional inputs are left out."""
    inputs = []
    for item in config.input:
        if item.optional:
            continue
        shape = [1, *(PROBE_DIM if dim < 0 else dim for dim in item.dims)]
        dtype = _DTYPES[_type_name(item)]
        array: np.ndarray[Any, Any] = (
            np.full(shape, b"", dtype) if dtype is np.object_ else np.zeros(shape, dtype)
        )
        tensor = grpc.InferInput(item.name, shape, np_to_triton_dtype(dtype))
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    return inputs


def _type_name(item: Any) -> str:
    return str(item.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[item.data_type].name)


def _label(process: psutil.Process) -> str:
    """A stub's command line names its model's instance; fall back to the program's name."""
    words = [word for word in process.cmdline() if word.endswith(".py")]
    return str(words[0] if words else process.name())


def _is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
