"""The shapes that an engine is built for, from the network's facts and the sizes that its checkpoint fixed."""

import json
from collections.abc import Mapping
from typing import NamedTuple

from nexus_export.errors import BuildError
from nexus_export.networks import FIXED_DIMS_KEY, Network, Range, Tensor

# A prompt and its negative, and two people's clicks: the smallest batch worth tuning for.
USUAL_BATCH = 2


class Shapes(NamedTuple):
    """An input's shapes, the batch first: any between `least` and `most` runs, `usual` is tuned for.

    The names are the manifest's; TensorRT's own are min, opt and max.
    """

    least: tuple[int, ...]
    usual: tuple[int, ...]
    most: tuple[int, ...]


# By input.
Profile = Mapping[str, Shapes]


def fixed_dims_of(metadata: Mapping[str, str]) -> dict[str, int]:
    """The sizes that the checkpoint fixed, from the artifact's metadata."""
    return dict(json.loads(metadata.get(FIXED_DIMS_KEY, "{}")))


def profile(network: Network, fixed_dims: Mapping[str, int], max_batch: int | None = None) -> Profile:
    """The shapes of every input of `network`, at most `max_batch` rows (default: its config's).

    Raises BuildError if a width is not known.
    """
    most = min(max_batch or network.max_batch, network.max_batch)
    batch = Range(1, min(USUAL_BATCH, most), most)
    return {tensor.name: _shapes(network, tensor, batch, fixed_dims) for tensor in network.inputs}


def _shapes(network: Network, tensor: Tensor, batch: Range, fixed_dims: Mapping[str, int]) -> Shapes:
    ranges = [batch]
    for dim in tensor.dims:
        if isinstance(dim, int):
            ranges.append(Range(dim, dim, dim))
        elif (free := network.axes[dim]) is not None:
            ranges.append(free)
        elif dim in fixed_dims:
            ranges.append(Range(*[fixed_dims[dim]] * 3))
        else:
            raise BuildError(
                f"the artifact of {network.name} does not record its {dim}; build it again: "
                f"nexus-export build {network.name}"
            )
    return Shapes(*(tuple(sizes) for sizes in zip(*ranges, strict=True)))
