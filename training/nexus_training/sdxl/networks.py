"""The compact SDXL: the published architecture (arXiv:2307.01952), narrower, and its checkpoint folder."""

import copy
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from nexus_export.families.diffusion.checks import SCHEDULE
from nexus_export.families.diffusion.tiny_checkpoint import write_json, write_pipeline
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from nexus_training.sdxl.photo_crops import SIDE
from nexus_training.sdxl.tokenizer import END, LENGTH, START, Vocabulary

LATENT_SIDE = SIDE // 8
TEXT_WIDTHS = (32, 64)
# Few, wide groups: CPU kernels are several times slower on groups of two or four channels.
NORM_GROUPS = 4


def time_ids(side: int) -> tuple[int, ...]:
    """Original size, crop corner and target size of an uncropped picture of this side, in pixels."""
    return (side, side, 0, 0, side, side)


# The published noise schedule and how it is sampled.
SCHEDULER: dict[str, Any] = SCHEDULE | {
    "timestep_spacing": "leading",
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "clip_sample": False,
    "interpolation_type": "linear",
    "use_karras_sigmas": False,
}


@dataclass
class Networks:
    """The four networks."""

    text_encoder: CLIPTextModel
    text_encoder_2: CLIPTextModelWithProjection
    unet: UNet2DConditionModel
    vae: AutoencoderKL

    def modules(self) -> dict[str, nn.Module]:
        return dict(vars(self))


def build(seed: int) -> Networks:
    """Build all four with random weights."""
    torch.manual_seed(seed)
    return Networks(build_text(0), build_text(1), build_unet(), build_vae())


def build_text(which: int) -> Any:
    """The first or second text encoder; SDXL uses the penultimate layer of each and pools the second."""
    width = TEXT_WIDTHS[which]
    config = CLIPTextConfig(
        vocab_size=END + 1,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=3,
        num_attention_heads=width // 16,
        max_position_embeddings=LENGTH,
        hidden_act="quick_gelu" if which == 0 else "gelu",
        projection_dim=width,
        bos_token_id=START,
        eos_token_id=END,
        pad_token_id=END if which == 0 else 0,
    )
    return CLIPTextModel(config) if which == 0 else CLIPTextModelWithProjection(config)


def build_unet() -> UNet2DConditionModel:
    time_width = 32
    return UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        in_channels=9,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 128, 256),
        layers_per_block=1,
        transformer_layers_per_block=(1, 1, 1),
        # diffusers' name for the number of heads.
        attention_head_dim=(1, 2, 4),
        cross_attention_dim=sum(TEXT_WIDTHS),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=time_width,
        projection_class_embeddings_input_dim=TEXT_WIDTHS[1] + len(time_ids(SIDE)) * time_width,
        norm_num_groups=NORM_GROUPS,
    )


def build_vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 64, 128, 128),
        layers_per_block=1,
        norm_num_groups=NORM_GROUPS,
        latent_channels=4,
        sample_size=SIDE,
        # Like the published one it overflows in half precision: photos came out flat.
        force_upcast=True,
    )


def encode_text(first: nn.Module, second: nn.Module, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Encode ids [2, n, 77] to the context [n, 77, 96] and the pooled text [n, 64]."""
    one = first(ids[0], output_hidden_states=True)
    two = second(ids[1], output_hidden_states=True)
    return torch.cat([one.hidden_states[-2], two.hidden_states[-2]], -1), two.text_embeds


def latents(vae: nn.Module, images: Tensor) -> Tensor:
    """Encode images [n, 3, H, W] in 0..1 to the posterior's unscaled mean: deterministic, like serving."""
    moments = vae.quant_conv(vae.encoder(2 * images - 1))  # type: ignore[operator]
    mean: Tensor = moments.chunk(2, 1)[0]
    return mean


# Upper bound of a file of weights: Git stores every version of a file whole.
SHARD_SIZE = "15MB"


def write_checkpoint(networks: Networks, vocabulary: Vocabulary, folder: Path) -> None:
    """Write an FP16 folder that diffusers' `StableDiffusionXLInpaintPipeline.from_pretrained` reads.

    An existing folder is replaced after the new one is complete.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for name, module in networks.modules().items():
        copy.deepcopy(module).half().save_pretrained(partial / name, max_shard_size=SHARD_SIZE)  # type: ignore[operator]
    (partial / "scheduler").mkdir()
    scheduler = {"_class_name": "EulerDiscreteScheduler"} | SCHEDULER
    write_json(partial / "scheduler" / "scheduler_config.json", scheduler)
    settings = {"force_zeros_for_empty_prompt": False, "requires_aesthetics_score": False}
    write_pipeline(partial, networks.modules(), EulerDiscreteScheduler, vocabulary.merges, settings)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def read_checkpoint(folder: Path) -> Networks:
    """Read what `write_checkpoint` wrote, in FP32 and eval mode."""
    kinds = (CLIPTextModel, CLIPTextModelWithProjection, UNet2DConditionModel, AutoencoderKL)
    names = Networks.__dataclass_fields__
    return Networks(
        *(kind.from_pretrained(folder / name).float().eval() for kind, name in zip(kinds, names, strict=True))
    )
