"""The requests that generative_fill refuses, at what cost, and the extremes that it serves."""

from __future__ import annotations

import math
from typing import Any

import pytest
from nexus_ensembles.errors import BadInput

from tests.ensembles.support.fakes import encode
from tests.ensembles.support.fill import (
    MASK,
    FakeFillNetworks,
    fill,
)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"steps": 0}, "steps is 0; it must lie between 1 and 150."),
        ({"steps": 151}, "steps is 151; it must lie between 1 and 150."),
        ({"guidance_scale": 0.9}, "guidance_scale is 0.9; it must lie between 1 and 30."),
        ({"guidance_scale": math.inf}, "guidance_scale is inf; it must lie between 1 and 30."),
        ({"guidance_scale": math.nan}, "guidance_scale is nan; it must lie between 1 and 30."),
        ({"strength": 0.0}, "strength is 0; it must be more than 0 and at most 1."),
        ({"strength": 1.01}, "strength is 1.01; it must be more than 0 and at most 1."),
        ({"strength": math.nan}, "strength is nan; it must be more than 0 and at most 1."),
        ({"seed": -1}, f"seed is -1; it must lie between 0 and {2**63 - 1}."),
        ({"preview_every": -1}, "preview_every is -1; it must be 0 (no previews) or more."),
        ({"prompt": "x" * 1025}, "the prompt has 1025 bytes; at most 1024 are accepted."),
        ({"negative_prompt": "é" * 513}, "the negative prompt has 1026 bytes; at most 1024 are accepted."),
    ],
)
def test_parameters_out_of_range(options: dict[str, Any], sentence: str) -> None:
    networks = FakeFillNetworks()
    with pytest.raises(BadInput) as caught:
        fill(networks, **options)
    assert str(caught.value) == sentence
    assert networks.calls == []


@pytest.mark.parametrize("options", [{"scheduler": "heun"}, {"steps": 3, "strength": 0.3}])
def test_a_refusal_of_the_schedulers_costs_no_network(options: dict[str, Any]) -> None:
    networks = FakeFillNetworks()
    with pytest.raises(BadInput):
        fill(networks, **options)
    assert networks.calls == []


def test_the_longest_prompts_are_served() -> None:
    assert fill(prompt="é" * 512, negative_prompt="x" * 1024)[1].model == "sdxl"


def test_the_largest_seed_and_the_smallest_strength_are_served() -> None:
    _, result = fill(seed=2**63 - 1, steps=150, strength=0.0067)
    assert result.seed == 2**63 - 1


def test_a_refused_prompt_costs_not_even_the_decoding() -> None:
    networks = FakeFillNetworks()
    with pytest.raises(BadInput, match="prompt"):
        fill(networks, prompt="a nude woman", image=b"not an image")
    assert networks.calls == []
    fill(negative_prompt="nude")  # a negative prompt may name it


def test_bad_images_cost_no_network() -> None:
    networks = FakeFillNetworks()
    with pytest.raises(BadInput, match="image"):
        fill(networks, image=b"not an image")
    with pytest.raises(BadInput, match="same size"):
        fill(networks, mask=encode(MASK[:-1]))
    assert networks.calls == []


def test_an_empty_prompt_is_served() -> None:
    assert fill(prompt="", negative_prompt="")[1].model == "sdxl"
