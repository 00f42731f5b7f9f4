"""Small arrays sent to the device without waiting for it."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor


def sent(values: ArrayLike, device: torch.device) -> Tensor:
    """The values as a tensor on ``device``, floats as float32.

    A plain ``.to(device)`` waits until the device has done everything asked of it before; many of those in a
    step leave it idle while the processor prepares what comes next.
    """
    array = np.asarray(values)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    return torch.from_numpy(array).to(device, non_blocking=True)
