"""The registry is where a network's facts stand: configs are written from it, and the pipelines stay within it."""

import math
from pathlib import Path

import pytest
from nexus_ensembles import cleanup, segment
from nexus_ensembles.diffusion import crop
from nexus_export.configs import rewritten
from nexus_export.networks import GROUPS, NETWORKS, TIERS, Range

REPOSITORY = Path(__file__).parents[2] / "model_repository"


@pytest.mark.parametrize("name", NETWORKS)
def test_the_committed_config_says_what_the_registry_does(name: str) -> None:
    text = (REPOSITORY / name / "config.pbtxt").read_text()
    assert rewritten(text, NETWORKS[name]) == text, "run: python -m nexus_export.configs"


def test_every_group_and_axis_is_known() -> None:
    assert {name for names in GROUPS.values() for name in names} <= NETWORKS.keys()
    for network in NETWORKS.values():
        tensors = (*network.inputs, *network.outputs)
        assert {dim for tensor in tensors for dim in tensor.dims if isinstance(dim, str)} == set(network.axes)


def _range(network: str, axis: str) -> Range:
    sizes = NETWORKS[network].axes[axis]
    assert sizes is not None
    return sizes


def test_cleanup_sends_lama_what_its_engine_is_built_for() -> None:
    sides = _range("lama", "height")
    assert sides == _range("lama", "width")
    assert (sides.least, sides.most) == (cleanup.SMALLEST_SIDE, cleanup.CROP_LONGEST)
    assert sides.least <= cleanup.CROP_SMALLEST <= sides.most
    assert math.isqrt(cleanup.CROP_MAX_AREA) <= sides.most


@pytest.mark.parametrize("tier", TIERS)
def test_fills_send_what_the_engines_are_built_for(tier: str) -> None:
    pixels, latents = _range(f"{tier}_vae_encoder", "height"), _range(f"{tier}_unet", "latent_height")
    sides = {side for size in crop.working_sizes(pixels.usual) for side in size}
    assert min(sides) >= pixels.least
    assert max(sides) == pixels.most
    assert [side // crop.VAE_SCALE_FACTOR for side in pixels] == list(latents)


def test_segment_sends_as_many_points_as_the_engine_is_built_for() -> None:
    points = _range("sam_decoder", "points")
    most = segment.MAX_POINTS + len(segment.BOX_CORNERS)
    assert points.usual == segment.TOKENS
    assert points.most == -(-most // segment.TOKENS) * segment.TOKENS
