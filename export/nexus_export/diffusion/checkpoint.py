"""Open a checkpoint of SDXL or SD 1.5 inpainting in diffusers' format, and refuse what we could not serve.

The pipeline samples with the published noise schedule and reads prompts with CLIP's vocabulary, and neither
is exported with the networks: a checkpoint that was trained with others would paint, but paint wrongly.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import transformers
from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel
from safetensors import SafetensorError
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from nexus_export.diffusion.clip_vocabulary import MERGES_SHA256, merges_sha256
from nexus_export.errors import CheckpointError

#: What the pipeline samples with; both published checkpoints were trained with it.
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
}
UNET_CHANNELS = 9

#: The file that tells a checkpoint of random weights from a trained one.
RANDOM_WEIGHTS = "RANDOM_WEIGHTS"

_CLASSES = {
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
}
_TITLES = {"sdxl": "SDXL", "sd15": "SD 1.5"}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that passed the checks; models are loaded one by one."""

    tier: str  # "sdxl" or "sd15"
    folder: Path
    name: str  # as the user gave it

    @property
    def random_weights(self) -> bool:
        """Whether nobody trained it: `tiny_checkpoint` wrote it."""
        return (self.folder / RANDOM_WEIGHTS).is_file()

    def config(self, component: str) -> dict[str, Any]:
        """The configuration of one of its models."""
        return _read_json(self.folder / component / "config.json", self.name)

    def load(self, component: str) -> Any:
        """The model of this name, on the CPU, in FP32 and in eval mode.

        Raises:
            CheckpointError: its weights are missing, damaged or not this configuration's.
        """
        transformers.utils.logging.disable_progress_bar()
        transformers.utils.logging.set_verbosity_error()
        diffusers.utils.logging.set_verbosity_error()
        # Only text encoders know this option; whatever runs elsewhere, exporting wants torch's own attention.
        options = {"attn_implementation": "sdpa"} if component.startswith("text_encoder") else {}
        try:
            loaded: Any = _CLASSES[component].from_pretrained(
                str(self.folder / component),
                dtype="float32" if options else None,
                output_loading_info=True,
                **options,
            )
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError):
            # The libraries' texts are for who calls them: long, and full of options that are not ours.
            raise CheckpointError(
                f"the weights of {component} in {self.name} are missing, damaged or not its configuration's; "
                "fetch the checkpoint again."
            ) from None
        model, info = loaded
        if info["missing_keys"]:
            raise CheckpointError(
                f"the weights of {component} in {self.name} lack {min(info['missing_keys'])}; "
                "fetch the checkpoint again."
            )
        return model.float().eval()


def open_checkpoint(name: str, tier: str) -> Checkpoint:
    """Find the checkpoint `name`, a folder or a hub id ("owner/name"), and check that it can be served.

    Raises:
        CheckpointError: it is not there, is not this tier's inpainting model, or was trained with another
            noise schedule or vocabulary than the pipeline's.
    """
    folder = _folder(name)
    checkpoint = Checkpoint(tier, folder, name)
    index = _read_json(folder / "model_index.json", name)
    found = "sdxl" if "text_encoder_2" in index else "sd15"
    if found != tier:
        raise CheckpointError(
            f"{name} is a checkpoint of {_TITLES[found]}, not of {_TITLES[tier]}; run: "
            f"nexus-export build {found} --checkpoint {name}"
        )
    _check_unet(checkpoint)
    _check_vae(checkpoint)
    _check_schedule(checkpoint)
    for tokenizer in ("tokenizer", "tokenizer_2") if tier == "sdxl" else ("tokenizer",):
        _check_tokenizer(checkpoint, tokenizer)
    return checkpoint


def _folder(name: str) -> Path:
    folder = Path(name)
    if folder.is_dir():
        if not (folder / "model_index.json").is_file():
            raise CheckpointError(
                f"{name} is no checkpoint in diffusers' format (it has no model_index.json); give the folder "
                "that does, or convert a single-file checkpoint with diffusers first."
            )
        return folder
    if name.count("/") != 1 or name.startswith((".", "/")):
        raise CheckpointError(f"there is no folder {name}; give one, or the id of a checkpoint on the hub.")
    try:
        return Path(DiffusionPipeline.download(name))
    except Exception as error:
        # The hub's client raises errors of several libraries; none of their texts is for a user.
        raise CheckpointError(
            f"{name} could not be fetched from the hub ({type(error).__name__}); check the id and the network, "
            "or give a folder that holds the checkpoint."
        ) from None


def _check_unet(checkpoint: Checkpoint) -> None:
    channels = checkpoint.config("unet").get("in_channels", 4)
    if channels != UNET_CHANNELS:
        raise CheckpointError(
            f"the UNet of {checkpoint.name} takes {channels} channels where inpainting needs {UNET_CHANNELS}; "
            "use the checkpoint trained for inpainting."
        )


def _check_vae(checkpoint: Checkpoint) -> None:
    config = checkpoint.config("vae")
    unknown = [key for key in ("shift_factor", "latents_mean", "latents_std") if config.get(key) is not None]
    if unknown:
        raise CheckpointError(
            f"the VAE of {checkpoint.name} sets {unknown[0]}, which generative fill does not know; "
            "use a checkpoint with the published VAE."
        )


def _check_schedule(checkpoint: Checkpoint) -> None:
    config = _read_json(checkpoint.folder / "scheduler" / "scheduler_config.json", checkpoint.name)
    for key, wanted in SCHEDULE.items():
        # Older files leave the prediction's type out; it is epsilon then.
        found = config.get(key, "epsilon" if key == "prediction_type" else None)
        if found != wanted:
            raise CheckpointError(
                f"{checkpoint.name} was trained with {key} {found} where generative fill samples with {wanted}; "
                "use a checkpoint with the published noise schedule."
            )


def _check_tokenizer(checkpoint: Checkpoint, component: str) -> None:
    if merges_sha256(_merges(checkpoint.folder / component, checkpoint.name)) != MERGES_SHA256:
        raise CheckpointError(
            f"the {component} of {checkpoint.name} does not have CLIP's vocabulary; use a checkpoint whose "
            "text encoder is CLIP's."
        )


def _merges(folder: Path, name: str) -> Sequence[str]:
    """The merges of a tokenizer, from merges.txt or, where newer versions wrote no other, tokenizer.json."""
    if (folder / "merges.txt").is_file():
        return (folder / "merges.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")[1:]
    merges = _read_json(folder / "tokenizer.json", name)["model"]["merges"]
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]


def _read_json(path: Path, name: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content
    except (OSError, ValueError):
        raise CheckpointError(
            f"{name} is no complete checkpoint in diffusers' format (cannot read "
            f"{path.parent.name}/{path.name}); fetch it again."
        ) from None
