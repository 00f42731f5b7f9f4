"""Every network of generative fill against the diffusers and transformers model that it was exported from.

Run on the default build's networks, templates filled without torch; the references load their checkpoint.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

Artifact = Callable[[str], Path]
Open = Callable[[Path], onnxruntime.InferenceSession]
Reference = Callable[[str], Any]

TIERS = ("sdxl", "sd15")
# In latents; neither square, nor a size that was traced.
SIZES = ((16, 24), (40, 8))
BATCH = 2
# FP32 sums in another order: seen 2e-6 on outputs of deviation 1.
TOLERANCE = 1e-4
PROMPTS = ["a photo of a red fox in the snow", "word " * 100]


def _latents(channels: int, size: tuple[int, int]) -> NDArray[np.float32]:
    return np.random.default_rng(size).standard_normal((BATCH, channels, *size)).astype(np.float32)


def _photos(size: tuple[int, int]) -> NDArray[np.uint8]:
    height, width = size
    return np.random.default_rng(size).integers(0, 256, (BATCH, height * 8, width * 8, 3), dtype=np.uint8)


def _ids(tokenizer: Any) -> NDArray[np.int32]:
    tokens = tokenizer(PROMPTS, padding="max_length", max_length=77, truncation=True)
    return np.array(tokens.input_ids, np.int32)


def _difference(found: NDArray[np.float32], expected: torch.Tensor) -> float:
    assert found.shape == tuple(expected.shape)
    assert found.dtype == np.float32
    return float(np.abs(found - expected.numpy()).max())


@torch.no_grad()
def test_sdxl_text_encoder(artifact: Artifact, open_session: Open, reference: Reference) -> None:
    pipeline = reference("sdxl")
    ids = {"input_ids": _ids(pipeline.tokenizer), "input_ids_2": _ids(pipeline.tokenizer_2)}
    context, pooled = open_session(artifact("sdxl_text_encoder")).run(["context", "pooled"], ids)
    expected, _, expected_pooled, _ = pipeline.encode_prompt(PROMPTS, do_classifier_free_guidance=False)
    assert _difference(context, expected) <= TOLERANCE
    assert _difference(pooled, expected_pooled) <= TOLERANCE


@torch.no_grad()
def test_sd15_text_encoder(artifact: Artifact, open_session: Open, reference: Reference) -> None:
    pipeline = reference("sd15")
    session = open_session(artifact("sd15_text_encoder"))
    [context] = session.run(["context"], {"input_ids": _ids(pipeline.tokenizer)})
    expected, _ = pipeline.encode_prompt(PROMPTS, "cpu", 1, False)
    assert _difference(context, expected) <= TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tier", TIERS)
def test_vae_encoder(
    tier: str, size: tuple[int, int], artifact: Artifact, open_session: Open, reference: Reference
) -> None:
    photos = _photos(size)
    [latent] = open_session(artifact(f"{tier}_vae_encoder")).run(["latent"], {"image": photos})
    pipeline = reference(tier)
    pixels = pipeline.image_processor.preprocess(photos.astype(np.float32) / 255)
    expected = pipeline.vae.encode(pixels).latent_dist.mode() * pipeline.vae.config.scaling_factor
    assert _difference(latent, expected) <= TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tier", TIERS)
def test_vae_decoder(
    tier: str, size: tuple[int, int], artifact: Artifact, open_session: Open, reference: Reference
) -> None:
    latents = _latents(4, size)
    [photos] = open_session(artifact(f"{tier}_vae_decoder")).run(["image"], {"latent": latents})
    pipeline = reference(tier)
    decoded = pipeline.vae.decode(torch.from_numpy(latents) / pipeline.vae.config.scaling_factor).sample
    expected = pipeline.image_processor.postprocess(decoded, output_type="np")
    assert photos.dtype == np.uint8
    # Rounding to whole levels may fall the other way where a value lies half-way.
    assert np.abs(photos - expected * 255).max() <= 0.5 + TOLERANCE * 255
    # Not a flat picture, which would hide whatever goes wrong; a deviation of 64 is a quarter of the range.
    assert photos.std(axis=(1, 2)).min() > 20


@torch.no_grad()
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tier", TIERS)
def test_unet(
    tier: str, size: tuple[int, int], artifact: Artifact, open_session: Open, reference: Reference
) -> None:
    rng = np.random.default_rng(0)
    session = open_session(artifact(f"{tier}_unet"))
    unet = reference(tier).unet
    rows = {
        "sample": _latents(9, size),
        "timestep": np.array([[999], [41]], np.float32),
        "context": rng.standard_normal((BATCH, 77, unet.config.cross_attention_dim)).astype(np.float32),
    }
    if tier == "sdxl":
        rows["pooled"] = rng.standard_normal((BATCH, 64)).astype(np.float32)
        rows["time_ids"] = np.array([[256, 192, 0, 0, 256, 192], [64, 64, 8, 8, 32, 32]], np.float32)
    [noise] = session.run(["noise"], rows)
    given = {name: torch.from_numpy(row) for name, row in rows.items()}
    conditions = {"text_embeds": given.get("pooled"), "time_ids": given.get("time_ids")}
    expected = unet(
        given["sample"], given["timestep"][:, 0], given["context"], added_cond_kwargs=conditions
    ).sample
    assert _difference(noise, expected) <= TOLERANCE
    # As a trained one's, so that sampling neither explodes nor stands still.
    assert 0.7 < noise.std() < 1.4


@pytest.mark.parametrize("tier", TIERS)
def test_latents_have_a_trained_network_s_deviation(
    tier: str, artifact: Artifact, open_session: Open, photo: Callable[[str], Any]
) -> None:
    image = np.asarray(photo("coffee").resize((256, 192)))[None]
    [latent] = open_session(artifact(f"{tier}_vae_encoder")).run(["latent"], {"image": image})
    assert 0.3 < latent.std() < 3


@pytest.mark.parametrize("tier", TIERS)
def test_rows_of_a_batch_do_not_mix(tier: str, artifact: Artifact, open_session: Open) -> None:
    session = open_session(artifact(f"{tier}_unet"))
    rng = np.random.default_rng(0)
    widths = {"context": (77, 96 if tier == "sdxl" else 32), "pooled": (64,), "time_ids": (6,)}
    rows = {"sample": _latents(9, (16, 16)), "timestep": np.array([[981], [1]], np.float32)}
    rows |= {
        item.name: rng.standard_normal((BATCH, *widths[item.name])).astype(np.float32)
        for item in session.get_inputs()
        if item.name in widths
    }
    [together] = session.run(["noise"], rows)
    for index in range(BATCH):
        [alone] = session.run(["noise"], {name: row[index : index + 1] for name, row in rows.items()})
        # Matrix products of another size sum in another order.
        assert np.abs(together[index] - alone[0]).max() <= 1e-5
