"""Networks called from within a request by Triton's asynchronous BLS (business logic scripting)."""

from __future__ import annotations

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
from nexus_ensembles.triton.batching import Batching

# Triton's words, always as INTERNAL through BLS, for a call that may succeed on another try: a full queue, a wait in it
# past its time-out, a server that drains, and a killed stub, which stays dead until the supervisor restarts the server.
_TRANSIENT = ("Exceeds maximum queue size", "Request timeout expired", "not ready", "Stub process")


class TritonNetworks:
    """The networks as one request calls them, one call at a time.

    `served` are the networks that the pipeline may call, None for all that the server has. `batching` decides when
    each call leaves.
    """

    def __init__(self, request: Any, served: Collection[str] | None, batching: Batching) -> None:
        self._request = request
        self._served = served
        self._batching = batching

    async def run(self, network: str, **inputs: Array) -> dict[str, Array]:
        """See `nexus_ensembles.networks.Networks`."""
        outputs = await self.run_rows(network, **{name: array[None] for name, array in inputs.items()})
        return {name: array[0] for name, array in outputs.items()}

    async def run_rows(self, network: str, **inputs: Array) -> dict[str, Array]:
        """See `nexus_ensembles.networks.Networks`."""
        if self._served is not None and network not in self._served:
            raise NotBuilt(f"{network} is not built on this server.")
        async with self._batching.join(network, inputs):
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
        response = await call.async_exec()
        if response.has_error():
            raise _network_error(network, response.error())
        outputs = {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}
        if not outputs:  # a stub that was killed while it worked answers so, without an error
            raise Overloaded(f"{network} cannot take the request now; try again.")
        return outputs


def _network_error(network: str, error: Any) -> PipelineError:
    """Turn a failed BLS call into an error by which the caller can act; log the server's own words."""
    pb_utils.Logger.log_error(f"{network}: {error.message()}")
    if is_out_of_memory(error.message()):
        return OutOfMemory(f"out of memory: {network} has no room for the request.")
    if any(words in error.message() for words in _TRANSIENT):
        return Overloaded(f"{network} cannot take the request now; try again.")
    return NetworkFailed(f"{network} failed; the server's log says why.")
