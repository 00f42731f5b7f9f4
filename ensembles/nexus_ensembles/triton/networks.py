"""Networks called from within a request by Triton's asynchronous BLS (business logic scripting)."""

import asyncio
from collections.abc import Collection
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from nexus_ensembles.errors import (
    Cancelled,
    NetworkFailed,
    NotBuilt,
    OutOfMemory,
    Overloaded,
    PipelineError,
    is_out_of_memory,
)
from nexus_ensembles.networks import Array
from nexus_ensembles.triton.batching import StepBatcher

# Triton's words, always as INTERNAL through BLS, for a call that may succeed on another try: a full queue or a wait in
# it past its time-out, where an operator's config has a queue policy; a server that drains; and a killed stub, which
# stays dead until the supervisor restarts the server.
_TRANSIENT = ("Exceeds maximum queue size", "Request timeout expired", "not ready", "Stub process")

# One value in so many tells different inputs apart; a prime, so that it falls on every column and channel.
SAMPLED = 4099


class NetworkCalls:
    """The calls of networks that one pipeline makes, for all its requests."""

    def __init__(self, served: Collection[str] | None, shared: Collection[str], batcher: StepBatcher) -> None:
        """`served` are the networks that may be called, None for all that the server has.

        Equal calls of a network in `shared` that are under way at the same time are made once. `batcher` decides when
        each call leaves.
        """
        self.served = served
        self._shared = shared
        self._batcher = batcher
        self._under_way: dict[asyncio.Task[dict[str, Array]], tuple[str, dict[str, Array]]] = {}

    async def run_rows(self, request: Any, network: str, inputs: dict[str, Array]) -> dict[str, Array]:
        """Call `network` for `request`; see `nexus_ensembles.networks.Networks`."""
        if self.served is not None and network not in self.served:
            raise NotBuilt(f"{network} is not built on this server.")
        async with self._batcher.join(network, inputs):
            # A cancellation does not travel through BLS: the last moment to notice it is before the next call.
            if request.is_cancelled():
                raise Cancelled("the request was cancelled.")
            call = self._equal_call(network, inputs)
            if not call:
                call = asyncio.create_task(_infer(network, inputs))
                self._under_way[call] = network, inputs
                call.add_done_callback(self._under_way.pop)
            return dict(await call)

    def _equal_call(self, network: str, inputs: dict[str, Array]) -> asyncio.Task[dict[str, Array]] | None:
        """A call under way that will answer this one too."""
        if network in self._shared:
            for call, (other, others) in self._under_way.items():
                if other == network and _are_equal(others, inputs):
                    return call
        return None

    async def drain(self) -> None:
        """Return when the calls that are now under way have ended."""
        if self._under_way:
            await asyncio.wait(list(self._under_way))


class TritonNetworks:
    """The networks as one request calls them, one call at a time."""

    def __init__(self, request: Any, calls: NetworkCalls) -> None:
        self._request = request
        self._calls = calls

    async def run(self, network: str, **inputs: Array) -> dict[str, Array]:
        """See `nexus_ensembles.networks.Networks`."""
        outputs = await self.run_rows(network, **{name: array[None] for name, array in inputs.items()})
        return {name: array[0] for name, array in outputs.items()}

    async def run_rows(self, network: str, **inputs: Array) -> dict[str, Array]:
        """See `nexus_ensembles.networks.Networks`."""
        return await self._calls.run_rows(self._request, network, inputs)


async def _infer(network: str, inputs: dict[str, Array]) -> dict[str, Array]:
    call = pb_utils.InferenceRequest(
        model_name=network,
        requested_output_names=[],
        inputs=[pb_utils.Tensor(name, np.ascontiguousarray(array)) for name, array in inputs.items()],
        preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU),
    )
    response = await call.async_exec()
    if response.has_error():
        raise _network_error(network, response.error())
    outputs = {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}
    if not outputs:  # a stub that was killed while it worked answers so, without an error
        raise Overloaded(f"{network} cannot take the request now; try again.")
    return outputs


def _are_equal(some: dict[str, Array], others: dict[str, Array]) -> bool:
    """Compare a sample first: two photos differ nearly everywhere, and all of their 3 MB take a millisecond.

    No digest, which takes 4 ms and would be due for every click, also for one that has nothing to share.
    """
    return all(
        some.keys() == others.keys()
        and all(np.array_equal(some[name].ravel()[::step], others[name].ravel()[::step]) for name in some)
        and all(some[name].shape == others[name].shape for name in some)
        for step in (SAMPLED, 1)
    )


def _network_error(network: str, error: Any) -> PipelineError:
    """Turn a failed BLS call into an error by which the caller can act; log the server's own words."""
    pb_utils.Logger.log_error(f"{network}: {error.message()}")
    if is_out_of_memory(error.message()):
        return OutOfMemory(f"out of memory: {network} has no room for the request.")
    if any(words in error.message() for words in _TRANSIENT):
        return Overloaded(f"{network} cannot take the request now; try again.")
    return NetworkFailed(f"{network} failed; the server's log says why.")
