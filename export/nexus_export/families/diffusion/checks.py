"""Check by its configurations that generative fill can serve a checkpoint.

The pipeline samples with the published noise schedule and reads prompts with CLIP's vocabulary, and neither
is exported with the networks: a checkpoint that was trained with others would paint, but paint wrongly.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nexus_export.errors import CheckpointError
from nexus_export.families.diffusion.clip_vocabulary import MERGES_SHA256, merges_sha256

# The noise schedule that the pipeline samples with; both published checkpoints were trained with it.
TRAINING_TIMESTEPS = 1000
BETA_START, BETA_END = 0.00085, 0.012
SCHEDULE = {
    "num_train_timesteps": TRAINING_TIMESTEPS,
    "beta_start": BETA_START,
    "beta_end": BETA_END,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
}
UNET_CHANNELS = 9
# Height and width before cropping, top and left of the crop, height and width wanted.
TIME_IDS = 6

_TITLES = {"sdxl": "SDXL", "sd15": "SD 1.5"}


def check_servable(tier: str, folder: Path) -> None:
    """Check the checkpoint in `folder` for tier "sdxl" or "sd15".

    Raises CheckpointError if it is of the other tier, no inpainting model, or was trained with another noise schedule
    or vocabulary than the pipeline's; or a configuration cannot be read.
    """
    name = str(folder)
    found = "sdxl" if "text_encoder_2" in read_json(folder / "model_index.json", name) else "sd15"
    if found != tier:
        raise CheckpointError(
            f"{name} is a checkpoint of {_TITLES[found]}, not of {_TITLES[tier]}; run: "
            f"nexus-export build {found} --checkpoint {name}"
        )
    _check_unet(read_json(folder / "unet" / "config.json", name), name)
    _check_vae(read_json(folder / "vae" / "config.json", name), name)
    _check_schedule(read_json(folder / "scheduler" / "scheduler_config.json", name), name)
    for tokenizer in ("tokenizer", "tokenizer_2") if tier == "sdxl" else ("tokenizer",):
        _check_tokenizer(folder / tokenizer, name)


def read_json(path: Path, name: str) -> dict[str, Any]:
    """The JSON object at `path`, which belongs to the checkpoint `name`.

    Raises CheckpointError if it is missing or damaged.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content
    except (OSError, ValueError):
        raise CheckpointError(
            f"{name} is no complete checkpoint in diffusers' format (cannot read "
            f"{path.parent.name}/{path.name}); fetch it again."
        ) from None


def _check_unet(config: Mapping[str, Any], name: str) -> None:
    channels = config.get("in_channels", 4)
    if channels != UNET_CHANNELS:
        raise CheckpointError(
            f"the UNet of {name} takes {channels} channels where inpainting needs {UNET_CHANNELS}; "
            "use the checkpoint trained for inpainting."
        )


def _check_vae(config: Mapping[str, Any], name: str) -> None:
    unknown = [key for key in ("shift_factor", "latents_mean", "latents_std") if config.get(key) is not None]
    if unknown:
        raise CheckpointError(
            f"the VAE of {name} sets {unknown[0]}, which generative fill does not know; "
            "use a checkpoint with the published VAE."
        )


def _check_schedule(config: Mapping[str, Any], name: str) -> None:
    for key, wanted in SCHEDULE.items():
        # Older files leave the prediction's type out; it is epsilon then.
        found = config.get(key, "epsilon" if key == "prediction_type" else None)
        if found != wanted:
            raise CheckpointError(
                f"{name} was trained with {key} {found} where generative fill samples with {wanted}; "
                "use a checkpoint with the published noise schedule."
            )


def _check_tokenizer(folder: Path, name: str) -> None:
    if merges_sha256(_merges(folder, name)) != MERGES_SHA256:
        raise CheckpointError(
            f"the {folder.name} of {name} does not have CLIP's vocabulary; use a checkpoint whose "
            "text encoder is CLIP's."
        )


def _merges(folder: Path, name: str) -> Sequence[str]:
    """The merges of a tokenizer, from merges.txt or, where newer versions wrote no other, tokenizer.json."""
    if (folder / "merges.txt").is_file():
        return (folder / "merges.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")[1:]
    merges = read_json(folder / "tokenizer.json", name)["model"]["merges"]
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]


def condition_widths(unet: Mapping[str, Any]) -> dict[str, int]:
    """The widths of a tier's conditions, by the names of their axes, from the UNet's configuration."""
    sizes = {"context_width": unet["cross_attention_dim"]}
    if unet.get("addition_embed_type") == "text_time":
        embedded = TIME_IDS * unet["addition_time_embed_dim"]
        sizes["pooled_width"] = unet["projection_class_embeddings_input_dim"] - embedded
    return sizes
