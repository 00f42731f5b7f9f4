"""The optimiser of the trainings."""

import copy

import torch
from nexus_training.muon import Muon, orthogonalize
from torch import nn


def test_singular_values_come_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((16, 40), (40, 16)):
        values = torch.linalg.svdvals(orthogonalize(torch.randn(shape) * 1e-3))
        # The published coefficients trade exactness for steps: from 0.7 to 1.2.
        assert values.min() > 0.6
        assert values.max() < 1.3


def test_it_learns_and_goes_on_from_its_state() -> None:
    torch.manual_seed(0)
    truth, inputs = torch.randn(8, 12), torch.randn(256, 12)

    def steps(module: nn.Linear, optimiser: Muon, count: int) -> float:
        for _ in range(count):
            loss = ((module(inputs) - inputs @ truth.T) ** 2).mean()
            loss.backward()
            optimiser.step(0.1, 0.1)
        return float(loss.detach())

    module = nn.Linear(12, 8)
    optimiser = Muon(module, outer=())
    first = steps(module, optimiser, 1)
    again = copy.deepcopy(module)
    resumed = Muon(again, outer=())
    resumed.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    assert steps(module, optimiser, 150) == steps(again, resumed, 150) < 0.1 * first
    for weight, other in zip(module.parameters(), again.parameters(), strict=True):
        assert torch.equal(weight, other)
        assert weight.grad is None
