"""The committed default sets: today's torch code exports their templates, and numpy fills them as torch would."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from nexus_export.families.diffusion import compact_checkpoint
from nexus_export.families.diffusion.checkpoint import open_checkpoint
from nexus_export.families.diffusion.default import CONFIGS
from nexus_export.families.diffusion.templates import export_default
from nexus_export.families.diffusion.tier_config import tier_config
from nexus_export.families.diffusion.trace import trace_tier
from nexus_export.paths import TEMPLATES
from onnx import numpy_helper

from tests.export.support.same_nodes import assert_same_nodes

TIERS = ("sdxl", "sd15")


@pytest.mark.parametrize("tier", TIERS)
def test_the_same_graphs(tier: str, default_checkpoint: Callable[[str], Path]) -> None:
    for path, exported in export_default(open_checkpoint(default_checkpoint(tier), tier)):
        committed = onnx.load(str(path))
        assert_same_nodes(committed, exported, path.name)
        assert list(committed.graph.initializer) == list(exported.graph.initializer), path.name
        assert list(committed.graph.input) == list(exported.graph.input), path.name
        assert list(committed.graph.output) == list(exported.graph.output), path.name


@pytest.mark.parametrize("tier", TIERS)
def test_the_same_weights(
    tier: str, default_checkpoint: Callable[[str], Path], artifact: Callable[[str], Path]
) -> None:
    # The same graph and the same weights: the build without torch gives what torch would export.
    for network in trace_tier(tier, open_checkpoint(default_checkpoint(tier), tier).load):
        state = network.module.state_dict()
        built = onnx.load(str(artifact(network.name))).graph.initializer
        assert len(built) > 30
        for tensor in built:
            assert np.array_equal(numpy_helper.to_array(tensor), state[tensor.name].numpy()), tensor.name


@pytest.mark.parametrize("tier", TIERS)
def test_the_same_facts(tier: str, default_checkpoint: Callable[[str], Path]) -> None:
    facts = json.loads(CONFIGS[tier].read_text())
    expected = tier_config(open_checkpoint(default_checkpoint(tier), tier))
    assert (
        (facts["side"], facts["random_weights"])
        == (expected.side, expected.random_weights)
        == (256, tier == "sd15")
    )
    # Colours of 256 levels, from convolutions that sum in another order on another machine.
    assert np.abs(np.array(facts["latent_rgb"]) - expected.latent_rgb).max() <= 0.1


def test_the_compact_weights_are_small() -> None:
    # The repository's own limit for all four networks.
    assert sum(path.stat().st_size for path in compact_checkpoint.FOLDER.rglob("*.safetensors")) <= 60e6


def test_templates_are_small() -> None:
    # The repository's own limit for a graph.
    assert all(path.stat().st_size <= 300_000 for path in TEMPLATES.glob("*_sd*.onnx"))
