"""Two processes of a training run, started like torchrun starts them."""

import multiprocessing
import os
import socket
from pathlib import Path

import torch
from nexus_training.runtime import DistributedContext
from torch import nn


def _work(rank: int, port: int, out: Path) -> None:
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    context = DistributedContext()
    layer = nn.Linear(1, 1)
    for parameter in layer.parameters():
        parameter.grad = torch.full_like(parameter, float(rank))
    context.average_gradients(layer)
    gradients = [
        float(parameter.grad.sum()) for parameter in layer.parameters() if parameter.grad is not None
    ]
    values = [context.is_main, context.broadcast(10.0 + rank), *gradients]
    (out / str(rank)).write_text(repr(values))
    context.close()


def _is_free(port: int) -> bool:
    """For ports below the ephemeral range, which the kernel may assign to others before the processes have started."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_two_processes_share_gradients_and_the_clock(tmp_path: Path) -> None:
    port = next(port for port in range(29500, 29600) if _is_free(port))
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_work, args=(rank, port, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [(tmp_path / name).read_text() for name in "01"] == [
        "[True, 10.0, 0.5, 0.5]",
        "[False, 10.0, 0.5, 0.5]",
    ]
