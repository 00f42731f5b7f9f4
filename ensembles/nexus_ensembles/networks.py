"""The one seam of the pipelines: how they call networks."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]


class Networks(Protocol):
    """Calls a network of the model repository by name."""

    async def run(self, network: str, **inputs: Array) -> dict[str, Array]:
        """Run one row through `network`; the batch is Triton's business.

        `inputs` and the returned arrays have the shapes and dtypes of the network's config.pbtxt, without a
        batch axis. Raises Overloaded, OutOfMemory, Cancelled, NotBuilt or NetworkFailed.
        """
        ...

    async def run_rows(self, network: str, **inputs: Array) -> dict[str, Array]:
        """Run several rows through `network` as one call, so that they are sure to share a batch.

        As `run`, but inputs and outputs begin with a batch axis, at most the network's max_batch_size long.
        """
        ...
