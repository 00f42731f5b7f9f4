"""Trace the networks of a diffusers checkpoint: which there are, their inputs, outputs and dynamic axes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nexus_export.families.diffusion.checks import TIME_IDS, condition_widths
from nexus_export.families.diffusion.modules import (
    TOKENS,
    Sd15TextEncoder,
    Sd15Unet,
    SdxlTextEncoder,
    SdxlUnet,
    VaeDecoder,
    VaeEncoder,
)
from nexus_export.networks import GROUPS
from nexus_export.onnx_graphs.torchscript import export_template

# Models by their folder's name in a diffusers checkpoint; loaded one network at a time.
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

    @property
    def own_state(self) -> dict[str, NDArray[np.generic]]:
        """The module's own state, beside its models'."""
        own = {name for name, _ in self.module.named_buffers(recurse=False)}
        state = self.module.state_dict()
        return {name: state[name].numpy() for name in own & state.keys()}

    def template(self) -> onnx.ModelProto:
        """The graph without weights; it waits for those of `module.state_dict()` that it reads."""
        axes = {name: _axes(name) for name in (*self.inputs, *self.outputs)}
        return export_template(self.module, self.inputs, self.outputs, axes)


def trace_tier(tier: str, load: Load) -> Iterator[Traced]:
    """The four networks of tier "sdxl" or "sd15", in the order of `GROUPS`, each loaded when it is asked for."""
    return (trace(name, load) for name in GROUPS[tier])


def trace(network: str, load: Load) -> Traced:
    """The network of this name, "sdxl_unet", around models that `load` gives."""
    tier, _, part = network.partition("_")
    match part:
        case "vae_encoder":
            image = torch.zeros(_BATCH, _HEIGHT * 8, _WIDTH * 8, 3, dtype=torch.uint8)
            return Traced(network, VaeEncoder(load("vae")), {"image": image}, ("latent",))
        case "vae_decoder":
            vae = load("vae")
            latent = torch.zeros(_BATCH, vae.config.latent_channels, _HEIGHT, _WIDTH)
            return Traced(network, VaeDecoder(vae), {"latent": latent}, ("image",))
        case "text_encoder":
            return _text_encoder(tier, load)
        case _:
            return _unet(tier, load("unet"))


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
    sizes = condition_widths(unet.config)
    inputs = {
        "sample": torch.zeros(_BATCH, unet.config.in_channels, _HEIGHT, _WIDTH),
        "timestep": torch.zeros(_BATCH, 1),
        "context": torch.zeros(_BATCH, TOKENS, sizes["context_width"]),
    }
    if tier == "sdxl":
        inputs["pooled"] = torch.zeros(_BATCH, sizes["pooled_width"])
        inputs["time_ids"] = torch.zeros(_BATCH, TIME_IDS)
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
