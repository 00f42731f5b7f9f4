"""SDXL and SD 1.5 inpainting checkpoints at the published sizes, with random weights, in diffusers' format.

Configurations as published with diffusers/stable-diffusion-xl-1.0-inpainting-0.1 and
stable-diffusion-v1-5/stable-diffusion-inpainting; weights FP16, drawn and written one tensor at a time, under the
names that the published files have.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nexus_export.families.diffusion.checkpoint import open_checkpoint
from nexus_export.families.diffusion.seeded_weights import seeded_weight
from nexus_export.families.diffusion.tiny_checkpoint import write_tiny_checkpoint

_CLIP_L: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "projection_dim": 768,
}
# The end token as configurations of before transformers 4.31 have it.
_CLIP_BIG_G: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_attention_heads": 20,
    "num_hidden_layers": 32,
    "projection_dim": 1280,
    "eos_token_id": 2,
}
_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "norm_num_groups": 32,
}
_CONFIGS: dict[str, dict[str, dict[str, Any]]] = {
    "sdxl": {
        "text_encoder": _CLIP_L,
        "text_encoder_2": _CLIP_BIG_G,
        "vae": {**_VAE, "sample_size": 1024},
        "unet": {
            "sample_size": 128,
            "layers_per_block": 2,
            "norm_num_groups": 32,
            "block_out_channels": (320, 640, 1280),
            "attention_head_dim": (5, 10, 20),
            "transformer_layers_per_block": (1, 2, 10),
            "cross_attention_dim": 2048,
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
    },
    "sd15": {
        "text_encoder": _CLIP_L,
        "vae": {**_VAE, "sample_size": 512},
        "unet": {
            "sample_size": 64,
            "layers_per_block": 2,
            "norm_num_groups": 32,
            "block_out_channels": (320, 640, 1280, 1280),
            "attention_head_dim": 8,
            "cross_attention_dim": 768,
        },
    },
}


def write_full_checkpoint(tier: str, folder: Path, merges: Sequence[str]) -> None:
    """Write the checkpoint of tier "sdxl" (7 GB) or "sd15" (2.1 GB) into `folder`; the same every time."""
    write_tiny_checkpoint(tier, folder, merges)
    for component, values in _CONFIGS[tier].items():
        config = folder / component / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), **values}, indent=2) + "\n")
    checkpoint = open_checkpoint(folder, tier)
    for component in _CONFIGS[tier]:
        shapes = checkpoint.shapes(component)
        [weights] = (folder / component).glob("*.safetensors")
        weights.unlink()
        _write_weights(weights.with_name(f"{weights.stem}.fp16.safetensors"), component, shapes)


def _write_weights(path: Path, component: str, shapes: dict[str, tuple[int, ...]]) -> None:
    """Write a safetensors file: the header's length, the header, the tensors one after the other."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * int(np.prod(shape))
        stored = f"text_model.{name}" if component == "text_encoder" else name
        header[stored] = {"dtype": "F16", "shape": shape, "data_offsets": (begin, end)}
    text = json.dumps(header).encode()
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            stream.write(seeded_weight(f"{component}.{name}", shape).astype(np.float16).data)
