"""Named arrays: how single values become tensors and are read from them. Knows nothing of single operations.

Every tensor has a leading batch axis of 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .exceptions import ServerError

INT32_MAX = 2**31 - 1

Tensors = Mapping[str, npt.NDArray[Any]]
"""Name -> array; BYTES tensors are object arrays of bytes."""


def blob(content: bytes) -> npt.NDArray[np.object_]:
    """Return bytes as a BYTES tensor [1, 1]."""
    return np.array([[content]], np.object_)


def text(content: str) -> npt.NDArray[np.object_]:
    """Return a string as a BYTES tensor [1, 1] of UTF-8; what no UTF-8 can hold becomes "?"."""
    return blob(content.encode(errors="replace"))


def int32(value: int) -> npt.NDArray[np.int32]:
    """Return a number as an INT32 tensor [1, 1]."""
    return np.array([[value]], np.int32)


def only(outputs: Tensors, name: str) -> Any:
    """Return the one value of an output; raise `ServerError` where it is missing or holds several."""
    if name not in outputs or outputs[name].size != 1:
        raise ServerError(
            f"the server's answer has no single {name!r}: is it a Nexus Canvas of this version?"
        )
    return outputs[name].item()


def only_bytes(outputs: Tensors, name: str) -> bytes:
    """Return the bytes of an output; raises as `only`."""
    return bytes(only(outputs, name))
