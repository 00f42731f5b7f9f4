"""One network out of one checkpoint, before its precision is chosen: the hand-over from `families` to `build`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from nexus_export.networks import Network

Array = NDArray[Any]
# Runs a network: inputs by name, each with its batch axis, to outputs by name.
InferenceFn = Callable[[Mapping[str, Array]], dict[str, Array]]


@dataclass(frozen=True)
class ExportedNetwork:
    """A network's FP32 graph and its weights, apart from each other.

    `template` waits for `weights` (see `onnx_graphs.template`) or, if it was published as ONNX, holds its own, and
    `weights` is empty. `weights` may load each array when it is asked for: at full size not all fit in memory.
    `reference` loads the same network in torch, in FP32, or the published ONNX file where no torch code exists.
    `fixed_dims` are the sizes of the axes that the checkpoint fixes, see `networks.FIXED_DIMS_KEY`.
    `fp32_ops` replace `Network.fp32_ops` if the checkpoint's weights need others.
    """

    network: Network
    template: onnx.ModelProto
    weights: Mapping[str, NDArray[np.generic]]
    reference: Callable[[], InferenceFn]
    fixed_dims: Mapping[str, int] = field(default_factory=dict)
    fp32_ops: frozenset[str] | None = None

    @property
    def single_ops(self) -> frozenset[str]:
        """The ONNX operators that stay FP32 at every precision: the checkpoint's, else the network's."""
        return self.network.fp32_ops if self.fp32_ops is None else self.fp32_ops
