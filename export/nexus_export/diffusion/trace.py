"""Trace the networks of a diffusers checkpoint: which there are, their inputs, outputs and dynamic axes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from nexus_export.diffusion.modules import (
    TOKENS,
    Sd15TextEncoder,
    Sd15Unet,
    SdxlTextEncoder,
    SdxlUnet,
    VaeDecoder,
    VaeEncoder,
)
from nexus_export.onnx_graphs.torchscript import export_template

#: Models by their folder's name in a diffusers checkpoint; loaded one network at a time.
Load = Callable[[str], Any]

# Two rows, not square, divisible by every UNet's factor: no axis can be mistaken for another while tracing.
_BATCH, _HEIGHT, _WIDTH = 2, 8, 16


@dataclass(frozen=True)
class Traced:
    """One network ready for export: its module, and inputs to trace it on by their ONNX names."""

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]

    def template(self) -> onnx.ModelProto:
        """The graph without weights; it waits for those of `module.state_dict()` that it reads."""
        axes = {name: _axes(name) for name in (*self.inputs, *self.outputs)}
        return export_template(self.module, self.inputs, self.outputs, axes)


def trace_tier(tier: str, load: Load) -> Iterator[Traced]:
    """The four networks of tier "sdxl" or "sd15", in the order of their sizes, each loaded when it is asked for.

    Let go of one before asking for the next: at full size the UNet alone takes 10 GB.
    """
    vae = load("vae")
    image = torch.zeros(_BATCH, _HEIGHT * 8, _WIDTH * 8, 3, dtype=torch.uint8)
    latent = torch.zeros(_BATCH, vae.config.latent_channels, _HEIGHT, _WIDTH)
    yield Traced(f"{tier}_vae_encoder", VaeEncoder(vae), {"image": image}, ("latent",))
    yield Traced(f"{tier}_vae_decoder", VaeDecoder(vae), {"latent": latent}, ("image",))
    del vae
    yield _text_encoder(tier, load)
    yield _unet(tier, load("unet"))


def _text_encoder(tier: str, load: Load) -> Traced:
    ids = torch.zeros(_BATCH, TOKENS, dtype=torch.int32)
    if tier == "sdxl":
        module = SdxlTextEncoder(load("text_encoder"), load("text_encoder_2"))
        inputs = {"input_ids": ids, "input_ids_2": ids.clone()}
        return Traced("sdxl_text_encoder", module, inputs, ("context", "pooled"))
    return Traced(
        "sd15_text_encoder", Sd15TextEncoder(load("text_encoder")), {"input_ids": ids}, ("context",)
    )


def _unet(tier: str, unet: Any) -> Traced:
    inputs = {
        "sample": torch.zeros(_BATCH, unet.config.in_channels, _HEIGHT, _WIDTH),
        "timestep": torch.zeros(_BATCH, 1),
        "context": torch.zeros(_BATCH, TOKENS, unet.config.cross_attention_dim),
    }
    if tier == "sdxl":
        time_ids = torch.zeros(_BATCH, 6)
        embedded = time_ids.shape[1] * unet.config.addition_time_embed_dim
        inputs["pooled"] = torch.zeros(_BATCH, unet.config.projection_class_embeddings_input_dim - embedded)
        inputs["time_ids"] = time_ids
        return Traced("sdxl_unet", SdxlUnet(unet), inputs, ("noise",))
    return Traced("sd15_unet", Sd15Unet(unet), inputs, ("noise",))


def _axes(tensor: str) -> dict[int, str]:
    """The dynamic axes of a tensor by its name: the batch, a picture's sides, and the widths of conditions.

    Widths are fixed in every graph, but not the same in all; declared open, one config fits them all.
    """
    match tensor:
        case "image":
            return {0: "batch", 1: "height", 2: "width"}
        case "sample" | "latent" | "noise":
            return {0: "batch", 2: "latent_height", 3: "latent_width"}
        case "context":
            return {0: "batch", 2: "context_width"}
        case "pooled":
            return {0: "batch", 1: "pooled_width"}
        case _:
            return {0: "batch"}
