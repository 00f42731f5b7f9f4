"""Which tier paints when memory is out, and the notices and errors that follow."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from nexus_ensembles.diffusion.tiers import Breaker
from nexus_ensembles.errors import OutOfMemory

from tests.ensembles.support.fill import (
    SD15,
    SDXL,
    FakeFillNetworks,
    collect,
    fill,
    pipeline,
    stream,
)


@pytest.mark.parametrize("part", ["text_encoder", "vae_encoder", "unet", "vae_decoder"])
def test_out_of_memory_moves_a_request_to_the_second_tier(part: str) -> None:
    networks = FakeFillNetworks(full={f"sdxl_{part}"})
    progress, result = fill(networks, steps=6)
    assert result.model == "sd15"
    assert result.notices == ("the device is out of memory for sdxl, so sd15 painted this.",)
    # started over, in the second tier's own size
    assert [(event.step, event.total) for event in progress[-6:]] == [(step, 6) for step in range(1, 7)]
    assert networks.counts["sd15_text_encoder"] == 1
    (seen,) = networks.of("sd15_vae_encoder")
    assert seen["image"].shape[1:3] == (128, 128)
    _, alone = fill(FakeFillNetworks(), SD15, steps=6)
    assert result.image == alone.image


def test_after_out_of_memory_the_first_tier_is_skipped_and_then_probed() -> None:
    seconds = 0.0
    shared, networks = pipeline(breaker=Breaker(30, lambda: seconds)), FakeFillNetworks(full={"sdxl_unet"})

    def model() -> str:
        networks.calls.clear()
        request = collect(shared, networks, steps=2)
        return asyncio.run(request)[1].model

    assert (model(), networks.counts["sdxl_unet"]) == ("sd15", 1)
    assert (model(), "sdxl_text_encoder" in networks.counts) == ("sd15", False)
    seconds = 30
    assert (model(), networks.counts["sdxl_unet"]) == ("sd15", 1)
    seconds = 89
    assert (model(), "sdxl_text_encoder" in networks.counts) == ("sd15", False)
    networks.full.clear()
    assert model() == "sd15"
    seconds = 90
    assert model() == "sdxl"
    assert model() == "sdxl"


def test_a_probe_whose_caller_leaves_lets_another_probe() -> None:
    seconds = 0.0
    shared, networks = pipeline(breaker=Breaker(30, lambda: seconds)), FakeFillNetworks(full={"sdxl_unet"})

    async def story() -> list[str]:
        models = [(await collect(shared, networks, steps=2))[1].model]
        nonlocal seconds
        seconds = 30
        networks.full.clear()
        async with aclosing(stream(shared, networks)) as probe:
            await anext(probe)
            models.append((await collect(shared, networks, steps=2))[1].model)
        for _ in range(2):
            models.append((await collect(shared, networks, steps=2))[1].model)
        return models

    assert asyncio.run(story()) == ["sd15", "sd15", "sdxl", "sdxl"]


@pytest.mark.parametrize("names", [(SDXL, SD15), (SDXL,)])
def test_no_tier_with_room_is_an_error_that_says_what_to_do(names: tuple[str, ...]) -> None:
    networks = FakeFillNetworks(full={"sdxl_unet", "sd15_unet"})
    shared = pipeline(*names)
    for _ in range(2):  # the last resort is tried every time
        networks.calls.clear()
        with pytest.raises(OutOfMemory) as caught:
            asyncio.run(collect(shared, networks))
        assert str(caught.value) == (
            "out of memory: the device has no room for a fill now; try again later, or with guidance_scale 1, "
            "which takes less."
        )
        assert networks.counts[f"{names[-1]}_unet"] == 1


def test_random_weights_are_a_notice() -> None:
    shared = pipeline()
    object.__setattr__(shared._tiers[0][0], "random_weights", True)
    _, result = asyncio.run(collect(shared, FakeFillNetworks(), steps=2))
    assert result.notices == ("the sdxl weights are random: it paints noise, not pictures.",)
