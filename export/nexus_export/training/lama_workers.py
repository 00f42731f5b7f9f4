"""Data-parallel training over processes started by torchrun.

On processors, one single-threaded process a core is about twice as fast as one process with a thread a
core: the network's many small convolutions then wait for each other once a step, not once an operation.
"""

import os

import torch
from torch import distributed, nn


class Workers:
    """This process's place among the workers; alone unless torchrun started it."""

    def __init__(self) -> None:
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if self.count > 1:
            distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")

    @property
    def is_first(self) -> bool:
        """True in the one process that prints and saves."""
        return self.rank == 0

    def agreed(self, value: float) -> float:
        """The first worker's value. Clocks differ, and workers that part on what comes next would wait forever."""
        if self.count == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0)
        return values[0]

    def average_gradients(self, module: nn.Module) -> None:
        """Replace every worker's gradients of ``module`` by their mean over the workers."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        joined = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(joined)
        joined /= self.count
        means = torch.split(joined, [gradient.numel() for gradient in gradients])
        for gradient, mean in zip(gradients, means):
            gradient.copy_(mean.view_as(gradient))

    def close(self) -> None:
        """Leave the group."""
        if self.count > 1:
            distributed.destroy_process_group()
