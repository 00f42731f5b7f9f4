"""Scenes without an object."""

import pytest
import torch
from nexus_training.sdxl.captions import SCENES
from nexus_training.sdxl.scenes import paint_scene

pytestmark = pytest.mark.usefixtures("one_thread")


def test_scenes_have_their_colours() -> None:
    painted = {name: paint_scene(name, 2, torch.Generator().manual_seed(0)) for name in SCENES}
    mean = {name: pictures.mean((0, 2, 3)) for name, pictures in painted.items()}
    assert all(mean[name].argmax() == 1 for name in ("grass", "leaves"))
    assert all(mean[name].argmax() == 2 for name in ("water", "sky"))
    assert all(mean[name].argmax() == 0 for name in ("sand", "bricks", "wood"))
    assert mean["snow"].min() > 0.7
    assert all(not torch.equal(*pictures) for pictures in painted.values())
