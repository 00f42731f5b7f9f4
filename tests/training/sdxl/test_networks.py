"""The checkpoint that a training writes."""

from pathlib import Path

import pytest
import torch
from nexus_export.families.diffusion.checkpoint import open_checkpoint
from nexus_training.sdxl.networks import build, read_checkpoint, write_checkpoint
from nexus_training.sdxl.tokenizer import Vocabulary

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_checkpoint_is_one_that_the_export_accepts(tmp_path: Path, vocabulary: Vocabulary) -> None:
    networks = build(7)
    networks.vae.register_to_config(scaling_factor=0.4321)
    folder = tmp_path / "checkpoint"
    for _ in range(2):  # the second replaces the first
        write_checkpoint(networks, vocabulary, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    weights = list(folder.rglob("*.safetensors"))
    assert all(path.stat().st_size < 16e6 for path in weights)
    assert sum(path.stat().st_size for path in weights) < 60e6
    checkpoint = open_checkpoint(folder, "sdxl")
    assert not checkpoint.random_weights
    assert checkpoint.config("vae")["scaling_factor"] == 0.4321
    read = read_checkpoint(folder).modules()
    for name, module in networks.modules().items():
        state, again = checkpoint.load(name).state_dict(), read[name].state_dict()
        for key, value in module.state_dict().items():
            rounded = value.half().float() if value.is_floating_point() else value
            assert torch.equal(state[key], rounded), f"{name}.{key}"
            assert torch.equal(again[key], rounded), f"{name}.{key}"
