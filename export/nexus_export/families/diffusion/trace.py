"""Trace the networks of a diffusers checkpoint: the module of each, and the sizes it is traced at."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from nexus_export.families.diffusion import modules
from nexus_export.families.diffusion.checks import condition_widths
from nexus_export.networks import GROUPS, NETWORKS
from nexus_export.onnx_graphs.torchscript import export_network

# Models by their folder's name in a diffusers checkpoint; loaded one network at a time.
Load = Callable[[str], Any]

# Two rows, not square, divisible by every UNet's factor: no axis can be mistaken for another while tracing.
_BATCH = 2
_SIZES = {"height": 64, "width": 128, "latent_height": 8, "latent_width": 16}


@dataclass(frozen=True)
class Traced:
    """One network ready for export: its module, and the widths of its conditions by their axes' names."""

    name: str
    module: nn.Module
    widths: Mapping[str, int] = field(default_factory=dict)

    @property
    def own_state(self) -> dict[str, NDArray[np.generic]]:
        """The module's own state, beside its models'."""
        own = {name for name, _ in self.module.named_buffers(recurse=False)}
        state = self.module.state_dict()
        return {name: state[name].numpy() for name in own & state.keys()}

    def template(self) -> onnx.ModelProto:
        """The graph without weights; it waits for those of `module.state_dict()` that it reads.

        Widths are fixed in every graph, but not the same in all; declared open, one config fits them all.
        """
        return export_network(self.module, NETWORKS[self.name], _BATCH, {**_SIZES, **self.widths})


def trace_tier(tier: str, load: Load) -> Iterator[Traced]:
    """The four networks of tier "sdxl" or "sd15", in the order of `GROUPS`, each loaded when it is asked for."""
    return (trace(name, load) for name in GROUPS[tier])


def trace(network: str, load: Load) -> Traced:
    """The network of this name, "sdxl_unet", around models that `load` gives."""
    match network:
        case "sdxl_text_encoder":
            return Traced(network, modules.SdxlTextEncoder(load("text_encoder"), load("text_encoder_2")))
        case "sd15_text_encoder":
            return Traced(network, modules.Sd15TextEncoder(load("text_encoder")))
        case "sdxl_vae_encoder" | "sd15_vae_encoder":
            return Traced(network, modules.VaeEncoder(load("vae")))
        case "sdxl_vae_decoder" | "sd15_vae_decoder":
            return Traced(network, modules.VaeDecoder(load("vae")))
    unet = load("unet")
    module = modules.SdxlUnet(unet) if network == "sdxl_unet" else modules.Sd15Unet(unet)
    return Traced(network, module, condition_widths(unet.config))
