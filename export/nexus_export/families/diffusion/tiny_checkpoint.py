"""Write a tiny checkpoint in diffusers' format: the real structure of SDXL or SD 1.5 inpainting, random weights.

Where no published checkpoint is available, everything runs on it: parity with diffusers, the pipeline, the server.
It paints noise, not pictures.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, EulerDiscreteScheduler, PNDMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from nexus_export.families.diffusion.checkpoint import RANDOM_WEIGHTS
from nexus_export.families.diffusion.checks import SCHEDULE, UNET_CHANNELS
from nexus_export.families.diffusion.clip_vocabulary import END, START, merges_text, vocabulary
from nexus_export.families.diffusion.modules import TOKENS
from nexus_export.families.diffusion.seeded_weights import SCALING_FACTORS, seeded_weights

_VOCABULARY = 49_408
_END_ID = _VOCABULARY - 1
# Every width differs from the others, so that no mix-up goes unnoticed.
_CONTEXT, _CONTEXT_2, _POOLED, _TIME_IDS_EMBEDDED = 32, 48, 40, 6 * 8

_TEXT: dict[str, Any] = {
    "vocab_size": _VOCABULARY,
    "max_position_embeddings": TOKENS,
    "num_hidden_layers": 2,
    "bos_token_id": _END_ID - 1,
    "eos_token_id": _END_ID,
}
_VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (16, 16, 32, 32),
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 8,
    "sample_size": 256,
}
_UNET: dict[str, Any] = {
    "sample_size": 32,
    "in_channels": UNET_CHANNELS,
    "out_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 8,
}


def write_tiny_checkpoint(tier: str, folder: Path, merges: Sequence[str]) -> None:
    """Write the checkpoint of tier "sdxl" or "sd15" into `folder`, with CLIP's tokenizer.

    `StableDiffusionXLInpaintPipeline.from_pretrained` or `StableDiffusionInpaintPipeline.from_pretrained` loads
    it. The same tier gives the same files, byte for byte.
    """
    transformers.utils.logging.disable_progress_bar()
    models = _models(tier)
    for name, model in models.items():
        _fill(name, model)
        model.save_pretrained(folder / name)
    scheduler = EulerDiscreteScheduler if tier == "sdxl" else PNDMScheduler
    more = {"timestep_spacing": "leading"} if tier == "sdxl" else {"skip_prk_steps": True}
    scheduler(**SCHEDULE, steps_offset=1, **more).save_pretrained(folder / "scheduler")
    settings: dict[str, Any] = {"force_zeros_for_empty_prompt": True, "requires_aesthetics_score": False}
    if tier == "sd15":
        absent = [None, None]
        settings = {"requires_safety_checker": False, "safety_checker": absent, "feature_extractor": absent}
    write_pipeline(folder, models, scheduler, merges, settings)
    (folder / RANDOM_WEIGHTS).write_text("Nobody trained these weights: they paint noise, not pictures.\n")


def _models(tier: str) -> dict[str, Any]:
    text = CLIPTextConfig(
        **_TEXT, hidden_size=_CONTEXT, intermediate_size=64, num_attention_heads=2, hidden_act="quick_gelu"
    )
    models: dict[str, Any] = {"text_encoder": CLIPTextModel(text)}
    if tier == "sdxl":
        text_2 = CLIPTextConfig(
            **_TEXT,
            hidden_size=_CONTEXT_2,
            intermediate_size=96,
            num_attention_heads=3,
            hidden_act="gelu",
            projection_dim=_POOLED,
        )
        models["text_encoder_2"] = CLIPTextModelWithProjection(text_2)
        models["unet"] = UNet2DConditionModel(
            **_UNET,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(16, 32, 64),
            attention_head_dim=[1, 2, 4],
            transformer_layers_per_block=[1, 1, 2],
            cross_attention_dim=_CONTEXT + _CONTEXT_2,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=_TIME_IDS_EMBEDDED // 6,
            projection_class_embeddings_input_dim=_TIME_IDS_EMBEDDED + _POOLED,
        )
    else:
        models["unet"] = UNet2DConditionModel(
            **_UNET,
            block_out_channels=(16, 32, 32, 32),
            attention_head_dim=(1, 2, 2, 2),
            cross_attention_dim=_CONTEXT,
        )
    return models | {"vae": AutoencoderKL(**_VAE, scaling_factor=SCALING_FACTORS[tier])}


def _fill(component: str, model: nn.Module) -> None:
    state = model.state_dict()
    drawn = seeded_weights({f"{component}.{name}": tuple(tensor.shape) for name, tensor in state.items()})
    model.load_state_dict({name: torch.from_numpy(drawn[f"{component}.{name}"]) for name in state})
    model.eval()


def write_pipeline(
    folder: Path,
    models: Mapping[str, object],
    scheduler: type,
    merges: Sequence[str],
    settings: dict[str, Any],
) -> None:
    """Write a tokenizer for each text encoder among `models`, and model_index.json with the pipeline's `settings`."""
    index: dict[str, Any] = {"_diffusers_version": diffusers.__version__}
    index |= {name: _origin(type(model)) for name, model in models.items()} | {
        "scheduler": _origin(scheduler)
    }
    is_sdxl = "text_encoder_2" in models
    for name, padding in (("tokenizer", END), ("tokenizer_2", "!"))[: 1 + is_sdxl]:
        _write_tokenizer(folder / name, merges, padding)
        index[name] = ["transformers", "CLIPTokenizer"]
    index["_class_name"] = "StableDiffusionXLInpaintPipeline" if is_sdxl else "StableDiffusionInpaintPipeline"
    write_json(folder / "model_index.json", index | settings)


def _write_tokenizer(folder: Path, merges: Sequence[str], padding: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "merges.txt").write_text(merges_text(merges), encoding="utf-8")
    write_json(folder / "vocab.json", vocabulary(merges))
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": padding}
    write_json(folder / "special_tokens_map.json", special)
    more = {"tokenizer_class": "CLIPTokenizer", "model_max_length": TOKENS, "do_lower_case": True}
    write_json(folder / "tokenizer_config.json", {**special, **more, "errors": "replace"})


def _origin(kind: type) -> list[str]:
    """Library and class, as model_index.json names them."""
    return [kind.__module__.split(".")[0], kind.__name__]


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
