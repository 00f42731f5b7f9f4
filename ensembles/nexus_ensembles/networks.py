"""The one seam of the pipelines: how they call networks."""

from __future__ import annotations

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
        batch axis. Raises Overloaded, Cancelled or NetworkFailed.
        """
        ...
