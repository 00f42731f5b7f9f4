"""A training run of the compact SDXL: a stop costs nothing."""

from pathlib import Path
from typing import Any

import cv2
import nexus_training.sdxl.train as sdxl
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from nexus_export.families.diffusion.checkpoint import open_checkpoint
from nexus_training.runtime import save
from nexus_training.sdxl import autoencoder, denoiser, latent_buffer, samples, stage
from nexus_training.sdxl import networks as sdxl_networks
from nexus_training.sdxl.networks import build, read_checkpoint
from nexus_training.sdxl.train import parse_arguments, train

from tests.training.support.photos import muted_photo

pytestmark = pytest.mark.usefixtures("one_thread")


def _narrow_vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
    )


def _narrow_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=9,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=(1, 1),
        cross_attention_dim=96,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=64 + 6 * 8,
    )


class _Stopped(Exception):
    pass


def test_a_stopped_run_goes_on(
    tmp_path: Path, vocabulary_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped once in each long stage, with narrow networks and few pictures."""
    monkeypatch.setattr(sdxl, "TEXT_STEPS", 3)
    monkeypatch.setattr(latent_buffer, "CHUNK", 2)
    monkeypatch.setattr(denoiser, "PREFILL", 2)
    monkeypatch.setattr(autoencoder, "DRAWN", 64)
    monkeypatch.setattr(sdxl_networks, "build_vae", _narrow_vae)
    monkeypatch.setattr(sdxl_networks, "build_unet", _narrow_unet)
    monkeypatch.setattr(autoencoder, "SCALE_BATCHES", 1)
    for module in (sdxl, samples):
        monkeypatch.setattr(module, "SHEET_PROMPTS", ("a red ball",))
    start = build(0)
    (tmp_path / "photos").mkdir()
    for stem in ("lawn", "coffee"):
        cv2.imwrite(str(tmp_path / "photos" / f"{stem}.png"), muted_photo(len(stem)))

    def run(folder: str, save_seconds: float = 1e9) -> Path:
        values: dict[str, Any] = {"photos": tmp_path / "photos", "out": tmp_path / folder, "steps": 3}
        values |= {"vocabulary": vocabulary_file, "save-seconds": save_seconds}
        values |= {"batch-vae": 2, "batch-unet": 2, "fresh": 2, "buffer": 4}
        train(parse_arguments([word for name, value in values.items() for word in (f"--{name}", str(value))]))
        return tmp_path / folder

    def stop_after_saving(name: str) -> None:
        def stop(path: Path, state: dict[str, Any]) -> None:
            save(path, state)
            if path.stem == name:
                raise _Stopped

        with monkeypatch.context() as patch:
            patch.setattr(stage, "save", stop)
            with pytest.raises(_Stopped):
                run("broken", save_seconds=0)

    stop_after_saving("autoencoder")
    assert not (tmp_path / "broken" / "checkpoint").exists()
    stop_after_saving("denoiser")
    stopped = torch.load(tmp_path / "broken" / "denoiser.pt", weights_only=True)
    assert stopped["step"] == 1
    # States of earlier versions have these keys.
    kept = {"average", "optimiser", "step", "seconds"}
    assert set(stopped) == {"denoiser", *kept}
    finished = torch.load(tmp_path / "broken" / "autoencoder.pt", weights_only=True)
    assert set(finished) == {"vae", "scaling_factor", *kept}
    broken = run("broken")
    log = (broken / "log.txt").read_text()
    # The autoencoder was stopped, ended, and was not trained again.
    assert log.count("autoencoder done: 3 steps") == 1
    assert log.count("denoiser done: 3 steps") == 1
    assert torch.load(broken / "denoiser.pt", weights_only=True)["step"] == 3
    assert torch.load(broken / "autoencoder.pt", weights_only=True)["step"] == 3
    trained = read_checkpoint(broken / "checkpoint").modules()
    for network, before in start.modules().items():
        state, after = before.state_dict(), trained[network].state_dict()
        moved = [name for name in state if not torch.equal(state[name].half().float(), after[name].float())]
        # Not trained: the last layer of the text encoders, which SDXL does not use, and position ids.
        assert len(moved) > len(state) / 2, network
    assert (broken / "samples" / "000003.jpg").exists()
    assert open_checkpoint(broken / "checkpoint", "sdxl").config("unet")["in_channels"] == 9
