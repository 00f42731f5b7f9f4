"""Named arrays: makes single values into tensors and reads them back. Knows nothing of single operations.

Every tensor has a leading batch axis of 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .exceptions import ServerError

INT32_MAX = 2**31 - 1

# Name -> array; BYTES tensors are object arrays of bytes.
Tensors = Mapping[str, npt.NDArray[Any]]


def blob(content: bytes) -> npt.NDArray[np.object_]:
    """Return bytes as a BYTES tensor [1, 1]."""
    return np.array([[content]], np.object_)


def text(content: str) -> npt.NDArray[np.object_]:
    """Return a string as a BYTES tensor [1, 1] of UTF-8; a lone surrogate becomes "?"."""
    return blob(content.encode(errors="replace"))


def int32(value: int) -> npt.NDArray[np.int32]:
    """Return a number as an INT32 tensor [1, 1]."""
    return np.array([[value]], np.int32)


def only(outputs: Tensors, name: str) -> Any:
    """Return the one value of an output. Raises `ServerError` if it is missing or holds several."""
    if name not in outputs or outputs[name].size != 1:
        raise ServerError(
            f"the server's answer has no single {name!r}: is it a Nexus Canvas of this version?"
        )
    return outputs[name].item()


def only_bytes(outputs: Tensors, name: str) -> bytes:
    """Return the bytes of an output. Raises as `only`."""
    return bytes(only(outputs, name))
