"""Pipelines inside Triton's Python backend; the only module that imports triton_python_backend_utils.

Knows tensors, error codes, cancellation and nothing of images.
"""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from nexus_ensembles.errors import (
    BadInput,
    Cancelled,
    NetworkFailed,
    NotBuilt,
    OutOfMemory,
    Overloaded,
    PipelineError,
    says_out_of_memory,
)
from nexus_ensembles.networks import Array
from nexus_ensembles.triton.batching import Departures

Run = Callable[..., Awaitable[dict[str, Any]]]

# By name: while Triton completes a config, its utilities module is not whole yet.
_CODES = {
    BadInput: "INVALID_ARG",
    Overloaded: "UNAVAILABLE",
    OutOfMemory: "UNAVAILABLE",
    Cancelled: "CANCELLED",
    NotBuilt: "INVALID_ARG",
    NetworkFailed: "INTERNAL",
}


class Rounds:
    """Keeps the requests of one execution in step, so that their calls meet in the networks' queues and share batches.

    The price is small: Triton sends an execution's responses when the last is ready, so what waits here for a slower
    neighbour would otherwise wait there. Requests that call different networks wait for one another too, so that they
    still meet in those that both call.
    """

    def __init__(self, requests: int) -> None:
        self._busy = requests
        self._waiting: list[asyncio.Future[None]] = []

    async def join(self) -> None:
        """Return when every other request of the execution has joined as well, or has left."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self.leave()
        await turn

    def leave(self) -> None:
        """Be waited for no longer."""
        self._busy -= 1
        if self._busy == 0:
            for turn in self._waiting:
                turn.set_result(None)
            self._busy, self._waiting = len(self._waiting), []


class TritonNetworks:
    """Calls networks from within one request, one call at a time, by asynchronous BLS.

    `rounds` are those of the request's execution, and `departures` those of its process by network, where it has such;
    `under_way` holds each call while it runs, and `out_of_memory` is told the name of a network that had no memory.
    `served` are the networks that the pipeline may call; where it is not given, all that the server has.
    """

    def __init__(
        self,
        request: Any,
        rounds: Rounds | None = None,
        departures: Mapping[str, Departures] = MappingProxyType({}),
        under_way: set[asyncio.Future[Any]] | None = None,
        out_of_memory: Callable[[str], None] = lambda _: None,
        served: Collection[str] | None = None,
    ) -> None:
        self._request = request
        self._rounds = rounds
        self._departures = departures
        self._under_way = set() if under_way is None else under_way
        self._out_of_memory = out_of_memory
        self._served = served

    async def run(self, network: str, **inputs: Array) -> dict[str, Array]:
        """See `nexus_ensembles.networks.Networks`."""
        outputs = await self.run_rows(network, **{name: array[None] for name, array in inputs.items()})
        return {name: array[0] for name, array in outputs.items()}

    async def run_rows(self, network: str, **inputs: Array) -> dict[str, Array]:
        """See `nexus_ensembles.networks.Networks`."""
        if self._served is not None and network not in self._served:
            raise NotBuilt(f"{network} is not built on this server.")
        if self._rounds:
            await self._rounds.join()
        departures = self._departures.get(network)
        if not departures:
            return await self._call(network, inputs)
        # Triton ends a batch where the shape of a row changes.
        kind = tuple(sorted((name, array.shape[1:]) for name, array in inputs.items()))
        async with departures.together(kind, rows=len(next(iter(inputs.values())))):
            return await self._call(network, inputs)

    async def _call(self, network: str, inputs: dict[str, Array]) -> dict[str, Array]:
        # A cancellation does not travel through BLS: the last moment to notice it is before the next call.
        if self._request.is_cancelled():
            raise Cancelled("the request was cancelled.")
        call = pb_utils.InferenceRequest(
            model_name=network,
            requested_output_names=[],
            inputs=[pb_utils.Tensor(name, np.ascontiguousarray(array)) for name, array in inputs.items()],
            preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU),
        )
        answer = asyncio.ensure_future(call.async_exec())
        self._under_way.add(answer)
        answer.add_done_callback(self._under_way.discard)
        response = await answer
        if response.has_error():
            error = _network_error(network, response.error())
            if isinstance(error, OutOfMemory):
                self._out_of_memory(network)
            raise error
        outputs = {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}
        if not outputs:  # the answer, without an error, of a stub that was killed while it worked
            raise Overloaded(f"{network} cannot take the request now; try again.")
        return outputs


class Signature:
    """The inputs and outputs of a config: tensors to values, and values to tensors."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        # An input of dims [1] is a plain value to the pipeline, any other an array.
        self._scalars = {
            item["name"] for item in config["input"] if item["dims"] == ["1"] or item["dims"] == [1]
        }
        self._required = [item["name"] for item in config["input"] if not item.get("optional")]
        self._dtypes = {
            item["name"]: pb_utils.triton_string_to_numpy(item["data_type"]) for item in config["output"]
        }

    def values(self, request: Any) -> dict[str, Any]:
        """The request's inputs by name, without the batch axis; raises BadInput."""
        values: dict[str, Any] = {}
        for tensor in request.inputs():
            array = tensor.as_numpy()
            if len(array) != 1:
                raise BadInput(f"{tensor.name()} holds {len(array)} items; send one image a request.")
            values[tensor.name()] = array.item() if tensor.name() in self._scalars else array[0]
        for name in self._required:  # Triton itself only compares the number of inputs with the config's
            if name not in values:
                raise BadInput(f"{name} is missing.")
        return values

    def response(self, outputs: Mapping[str, Any]) -> Any:
        """Scalar `outputs` by name as a response with a batch axis of one."""
        return pb_utils.InferenceResponse(
            output_tensors=[
                pb_utils.Tensor(name, np.array([[value]], self._dtypes[name]))
                for name, value in outputs.items()
            ]
        )


class UnaryPipeline:
    """The base of a model.py: every request of a batch runs as a coroutine of its own, and fails alone.

    A subclass sets `run`, a coroutine function that takes a Networks and the config's inputs by name, and returns
    the config's outputs by name. The config's parameter `networks` lists the networks that it calls, and
    `optional_networks` those that it can do without; nexus-server takes out what is not built. Where there is no
    `networks`, it may call all that the server has.
    """

    run: Run

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        self._name: str = config["name"]
        self._threads = ThreadPoolExecutor(4 * config["max_batch_size"])
        self._signature = Signature(config)
        parameters = config["parameters"]
        lists = [
            parameters[key]["string_value"] for key in ("networks", "optional_networks") if key in parameters
        ]
        self._served = set(" ".join(lists).split()) if "networks" in parameters else None

    async def execute(self, requests: list[Any]) -> list[Any]:
        # BLS and asyncio.to_thread both wait in the loop's default executor, usually the cores plus four: too few on
        # a small machine for the calls of a whole batch to leave together.
        asyncio.get_running_loop().set_default_executor(self._threads)
        rounds = Rounds(len(requests))
        return await asyncio.gather(*(self._respond(request, rounds) for request in requests))

    async def _respond(self, request: Any, rounds: Rounds) -> Any:
        try:
            inputs = self._signature.values(request)
            networks = TritonNetworks(request, rounds, served=self._served)
            outputs = await type(self).run(networks, **inputs)
        except Exception as error:  # one request's fault must not fail its batch
            return failure(self._name, error)
        finally:
            rounds.leave()
        return self._signature.response(outputs)


def failure(name: str, error: Exception) -> Any:
    """The response to a request that `error` has ended; what nobody expected shows the caller none of our stack."""
    if isinstance(error, PipelineError):
        return _error(str(error), _CODES[type(error)])
    pb_utils.Logger.log_error(f"{name}: {''.join(traceback.format_exception(error))}")
    return _error(f"{name} failed; the server's log says why.", "INTERNAL")


# What Triton says, always as INTERNAL through BLS, when a call may succeed on another try: a full queue, a wait in it
# past its time-out, a server that drains, and a killed stub, which stays dead until the supervisor restarts the server.
_TRANSIENT = ("Exceeds maximum queue size", "Request timeout expired", "not ready", "Stub process")


def _network_error(network: str, error: Any) -> PipelineError:
    """A failed BLS call as what the caller should do about it; the server's own words go to its log."""
    pb_utils.Logger.log_error(f"{network}: {error.message()}")
    if says_out_of_memory(error.message()):
        return OutOfMemory(f"out of memory: {network} has no room for the request.")
    if any(words in error.message() for words in _TRANSIENT):
        return Overloaded(f"{network} cannot take the request now; try again.")
    return NetworkFailed(f"{network} failed; the server's log says why.")


def _error(message: str, code: str) -> Any:
    return pb_utils.InferenceResponse(
        error=pb_utils.TritonError(message, getattr(pb_utils.TritonError, code))
    )
