"""The calls of generative_fill's networks, their order, and the events that it yields."""

from __future__ import annotations

import asyncio
import io
from contextlib import aclosing

import numpy as np
import pytest
from nexus_ensembles.diffusion.schedulers import make_scheduler
from nexus_ensembles.generative_fill import Progress, Result
from PIL import Image

from tests.ensembles.support.fakes import decode, encode, noise
from tests.ensembles.support.fill import (
    MASK,
    PHOTO,
    SDXL,
    FakeFillNetworks,
    collect,
    fill,
    pipeline,
    stream,
)


def test_one_step_is_one_call_of_the_unet() -> None:
    networks = FakeFillNetworks()
    fill(networks, strength=0.5, steps=8)
    assert [call.network for call in networks.calls] == [
        "sdxl_text_encoder",
        "sdxl_vae_encoder",
        "sdxl_vae_encoder",
        *["sdxl_unet"] * 4,
        "sdxl_vae_decoder",
    ]


def test_the_unet_gets_what_diffusers_gives_it() -> None:
    networks = FakeFillNetworks()
    fill(networks, negative_prompt="ugly", seed=5)
    scheduler = make_scheduler("euler", 4, 1.0)
    calls = networks.of("sdxl_unet")
    assert [float(call["timestep"][0, 0]) for call in calls] == scheduler.timesteps.tolist()
    first = calls[0]
    assert {name: array.shape for name, array in first.items()} == {
        "sample": (2, 9, 24, 40),
        "timestep": (2, 1),
        "context": (2, 77, 8),
        "pooled": (2, 4),
        "time_ids": (2, 6),
    }
    assert first["time_ids"].tolist() == [[192, 320, 0, 0, 192, 320]] * 2
    # the negative prompt first
    (tokens,) = networks.of("sdxl_text_encoder")
    assert tokens["input_ids"].tolist() == [
        [256, *b"ugly", *[257] * 72],
        [256, *b"a bench", *[257] * 69],
    ]
    # the second encoder's padding is another
    assert tokens["input_ids_2"].tolist() == [
        [256, *b"ugly", 257, *[0] * 71],
        [256, *b"a bench", 257, *[0] * 68],
    ]
    np.testing.assert_array_equal(first["context"][..., 0] * 4096, tokens["input_ids"])
    # noise, the mask, and the photo with a grey hole
    start = np.random.Generator(np.random.Philox(5)).standard_normal((4, 24, 40), np.float32)
    np.testing.assert_array_equal(first["sample"][:, :4], [scheduler.scale(scheduler.start(start), 0)] * 2)
    np.testing.assert_array_equal(first["sample"][:, 4], [MASK[::8, ::8]] * 2)
    (seen,) = networks.of("sdxl_vae_encoder")
    np.testing.assert_array_equal(seen["image"][0], np.where(MASK[..., None], 128, PHOTO))
    np.testing.assert_array_equal(first["sample"][0, 5:], (networks._vae_encoder(SDXL, **seen))["latent"][0])


def test_guidance_goes_from_the_negative_prompt_to_the_prompt() -> None:
    seen = {}
    for scale in (1.0, 2.0, 3.0):
        networks = FakeFillNetworks()
        fill(networks, guidance_scale=scale, scheduler="ddim")
        seen[scale] = networks.of("sdxl_vae_decoder")[0]["latent"]
    # the fake UNet is linear and so is the scheduler
    np.testing.assert_allclose(
        seen[3.0] - seen[2.0], seen[2.0] - seen[1.0], atol=1e-4
    )  # of values about 10, FP32
    assert np.abs(seen[2.0] - seen[1.0]).min() > 0.01


def test_guidance_1_costs_one_row_a_step_and_leaves_the_negative_prompt_out() -> None:
    networks = FakeFillNetworks()
    _, result = fill(networks, guidance_scale=1.0, negative_prompt="ugly")
    assert {len(call["sample"]) for call in networks.of("sdxl_unet")} == {1}
    assert [len(call["input_ids"]) for call in networks.of("sdxl_text_encoder")] == [1]
    assert fill(guidance_scale=1.0, negative_prompt="other")[1].image == result.image


@pytest.mark.parametrize("strength", [0.3, 0.8])
def test_below_strength_1_it_starts_from_the_noised_original(strength: float) -> None:
    networks = FakeFillNetworks()
    progress, _ = fill(networks, strength=strength, steps=10, scheduler="ddim", seed=3)
    assert len(progress) == round(10 * strength)
    scheduler = make_scheduler("ddim", 10, strength)
    start = np.random.Generator(np.random.Philox(3)).standard_normal((4, 24, 40), np.float32)
    masked, whole = networks.of("sdxl_vae_encoder")
    np.testing.assert_array_equal(whole["image"][0], PHOTO)
    expected = scheduler.start(start, networks._vae_encoder(SDXL, **whole)["latent"][0])
    np.testing.assert_array_equal(networks.of("sdxl_unet")[0]["sample"][0, :4], scheduler.scale(expected, 0))
    assert (masked["image"][0][MASK] == 128).all()


@pytest.mark.parametrize("strength", [0.7, 0.3, 0.29, 0.57])
def test_a_strength_sent_as_fp32_takes_as_many_steps_as_the_number_that_was_meant(strength: float) -> None:
    progress, _ = fill(strength=float(np.float32(strength)), steps=100)
    assert len(progress) == int(100 * strength)


def test_progress_counts_the_steps() -> None:
    progress, result = fill(steps=5)
    assert progress == [Progress(step, 5, None) for step in range(1, 6)]
    assert (result.seed, result.model, result.notices) == (42, "sdxl", ())


def test_timings_are_seconds_by_phase() -> None:
    timings = fill()[1].timings
    assert list(timings) == ["text", "vae_encode", "denoise", "vae_decode", "total"]
    assert all(seconds > 0 for seconds in timings.values())
    assert sum(timings.values()) - timings["total"] < timings["total"]


@pytest.mark.parametrize(("every", "steps"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4]), (5, [5]), (6, [])])
def test_previews_come_every_so_many_steps(every: int, steps: list[int]) -> None:
    progress, _ = fill(steps=5, preview_every=every)
    assert [event.step for event in progress if event.preview] == steps


def test_a_preview_shows_the_photo_with_the_latents_in_the_hole() -> None:
    photo = np.full((600, 900, 3), 50, np.uint8)
    hole = np.zeros((600, 900), np.bool_)
    hole[200:400, 300:600] = True
    progress, _ = fill(image=encode(photo), mask=encode(hole), preview_every=4)
    picture = Image.open(io.BytesIO(progress[-1].preview or b""))
    assert (picture.format, picture.size) == ("JPEG", (512, 341))
    shown = np.asarray(picture, np.float32)
    # JPEG's ringing decays within its blocks of 8 and 16 pixels
    assert np.abs(shown[:90] - 50).max() < 3
    assert np.abs(shown[130:210, 190:320] - 50).max() > 50


def test_the_same_seed_gives_the_same_fill_and_another_another() -> None:
    for scheduler in ("euler", "euler_ancestral", "lcm"):
        first, again, other = (fill(seed=seed, scheduler=scheduler)[1].image for seed in (7, 7, 8))
        assert first == again
        assert np.abs(decode(first).astype(int) - decode(other)).max() > 10


def test_concurrent_fills_do_not_disturb_each_other() -> None:
    async def several() -> list[tuple[list[Progress], Result]]:
        shared, networks = pipeline(), FakeFillNetworks()
        return await asyncio.gather(
            *(
                collect(
                    shared,
                    networks,
                    seed=seed,
                    steps=steps,
                    scheduler="euler_ancestral",
                )
                for seed, steps in ((1, 3), (2, 9), (3, 5))
            )
        )

    together = asyncio.run(several())
    for (_, result), seed, steps in zip(together, (1, 2, 3), (3, 9, 5)):
        _, alone = fill(seed=seed, steps=steps, scheduler="euler_ancestral", strength=0.8)
        assert result.image == alone.image


def test_what_the_models_do_not_read_is_a_notice() -> None:
    notices = fill(prompt="a" * 75 + " and a hat", negative_prompt="b" * 77)[1].notices
    assert notices == (
        'the models read 77 tokens of a prompt; this was ignored: "bb".',
        'the models read 77 tokens of a prompt; this was ignored: " and a hat".',
    )


@pytest.mark.parametrize(
    ("height", "width"), [(1, 2), (2, 1), (7, 5), (64, 64), (191, 321), (257, 255), (500, 30), (1000, 700)]
)
@pytest.mark.parametrize("channels", [3, 4])
def test_pixels_outside_the_mask_are_those_of_the_photo(height: int, width: int, channels: int) -> None:
    pixels = noise(height, width, channels)
    hole = np.random.default_rng(height).integers(0, 9, (height, width)) == 0
    hole[: -(-height // 3), : -(-width // 3)] = True
    hole[-1, -1] = False
    _, result = fill(image=encode(pixels), mask=encode(hole))
    filled = decode(result.image)
    assert filled.shape == pixels.shape
    np.testing.assert_array_equal(filled[~hole], pixels[~hole])
    assert (filled[0, 0] != pixels[0, 0]).any()


def test_what_is_painted_in_a_transparent_photo_is_opaque() -> None:
    photo = np.zeros((192, 320, 4), np.uint8)
    photo[:, :60] = 255
    _, result = fill(image=encode(photo))
    alpha = decode(result.image)[..., 3]
    assert (alpha[52:92, 104:196] == 255).all()
    np.testing.assert_array_equal(alpha[~MASK], photo[~MASK][:, 3])


def test_12_megapixels_are_filled_in_a_crop_of_the_models_size() -> None:
    pixels = np.full((3000, 4000, 3), 9, np.uint8)
    pixels[1300:1600, 1900:2200] = noise(300, 300)
    hole = np.zeros((3000, 4000), np.bool_)
    hole[1400:1500, 2000:2100] = True
    networks = FakeFillNetworks()
    _, result = fill(networks, image=encode(pixels), mask=encode(hole))
    (seen,) = networks.of("sdxl_vae_encoder")
    np.testing.assert_array_equal(
        seen["image"][0], np.where(hole[..., None], 128, pixels)[1322:1578, 1922:2178]
    )
    np.testing.assert_array_equal(decode(result.image)[~hole], pixels[~hole])


@pytest.mark.parametrize("steps_taken", [1, 3])
def test_no_network_is_called_once_the_stream_is_closed(steps_taken: int) -> None:
    networks = FakeFillNetworks()

    async def leave() -> None:
        async with aclosing(stream(pipeline(), networks, steps=50)) as events:
            async for event in events:
                if isinstance(event, Progress) and event.step == steps_taken:
                    return

    async def leave_and_wait() -> None:
        await leave()
        for _ in range(20):
            await asyncio.sleep(0)

    asyncio.run(leave_and_wait())
    assert networks.counts["sdxl_unet"] == steps_taken
    assert "sdxl_vae_decoder" not in networks.counts
