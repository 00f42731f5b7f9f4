"""Write a tiny checkpoint in diffusers' format: the real structure of SDXL or SD 1.5 inpainting, random weights.

Where no published checkpoint is available, everything runs on it: parity with diffusers, the pipeline, the server.
It paints noise, not pictures.
"""

import json
from collections.abc import Sequence
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
    models = _sdxl_models() if tier == "sdxl" else _sd15_models()
    for name, model in models.items():
        _fill(name, model)
        model.save_pretrained(folder / name)
    scheduler = EulerDiscreteScheduler if tier == "sdxl" else PNDMScheduler
    more = {"timestep_spacing": "leading"} if tier == "sdxl" else {"skip_prk_steps": True}
    scheduler(**SCHEDULE, steps_offset=1, **more).save_pretrained(folder / "scheduler")
    _write_tokenizer(folder / "tokenizer", merges, padding=END)
    index: dict[str, Any] = {"_diffusers_version": diffusers.__version__}
    index |= {name: _origin(model) for name, model in models.items()}
    index |= {"scheduler": _origin(scheduler), "tokenizer": ["transformers", "CLIPTokenizer"]}
    if tier == "sdxl":
        _write_tokenizer(folder / "tokenizer_2", merges, padding="!")
        index |= {"tokenizer_2": index["tokenizer"], "_class_name": "StableDiffusionXLInpaintPipeline"}
        index |= {"force_zeros_for_empty_prompt": True, "requires_aesthetics_score": False}
    else:
        index |= {"_class_name": "StableDiffusionInpaintPipeline", "requires_safety_checker": False}
        index |= {"safety_checker": [None, None], "feature_extractor": [None, None]}
    _write_json(folder / "model_index.json", index)
    (folder / RANDOM_WEIGHTS).write_text("Nobody trained these weights: they paint noise, not pictures.\n")


def _sdxl_models() -> dict[str, Any]:
    text = CLIPTextConfig(
        **_TEXT, hidden_size=_CONTEXT, intermediate_size=64, num_attention_heads=2, hidden_act="quick_gelu"
    )
    text_2 = CLIPTextConfig(
        **_TEXT,
        hidden_size=_CONTEXT_2,
        intermediate_size=96,
        num_attention_heads=3,
        hidden_act="gelu",
        projection_dim=_POOLED,
    )
    unet = UNet2DConditionModel(
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
    return {
        "text_encoder": CLIPTextModel(text),
        "text_encoder_2": CLIPTextModelWithProjection(text_2),
        "unet": unet,
        "vae": AutoencoderKL(**_VAE, scaling_factor=SCALING_FACTORS["sdxl"]),
    }


def _sd15_models() -> dict[str, Any]:
    text = CLIPTextConfig(
        **_TEXT, hidden_size=_CONTEXT, intermediate_size=64, num_attention_heads=2, hidden_act="quick_gelu"
    )
    unet = UNet2DConditionModel(
        **_UNET,
        block_out_channels=(16, 32, 32, 32),
        attention_head_dim=(1, 2, 2, 2),
        cross_attention_dim=_CONTEXT,
    )
    return {
        "text_encoder": CLIPTextModel(text),
        "unet": unet,
        "vae": AutoencoderKL(**_VAE, scaling_factor=SCALING_FACTORS["sd15"]),
    }


def _fill(component: str, model: nn.Module) -> None:
    state = model.state_dict()
    drawn = seeded_weights({f"{component}.{name}": tuple(tensor.shape) for name, tensor in state.items()})
    model.load_state_dict({name: torch.from_numpy(drawn[f"{component}.{name}"]) for name in state})
    model.eval()


def _write_tokenizer(folder: Path, merges: Sequence[str], padding: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "merges.txt").write_text(merges_text(merges), encoding="utf-8")
    _write_json(folder / "vocab.json", vocabulary(merges))
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": padding}
    _write_json(folder / "special_tokens_map.json", special)
    more = {"tokenizer_class": "CLIPTokenizer", "model_max_length": TOKENS, "do_lower_case": True}
    _write_json(folder / "tokenizer_config.json", {**special, **more, "errors": "replace"})


def _origin(thing: object) -> list[str]:
    """Library and class, as model_index.json names them."""
    kind = thing if isinstance(thing, type) else type(thing)
    return [kind.__module__.split(".")[0], kind.__name__]


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
