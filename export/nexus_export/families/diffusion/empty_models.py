"""The models of diffusers and transformers without weights: their structure, for tracing and for names and shapes."""

from collections.abc import Mapping
from typing import Any

import diffusers
import torch
import transformers
from accelerate import init_empty_weights  # type: ignore[import-untyped]
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from nexus_export.errors import CheckpointError

_CLASSES = {
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
}


def build(component: str, config: Mapping[str, Any], name: str) -> nn.Module:
    """The model of a checkpoint's folder `component`, in eval mode, with every weight 0 and none in memory.

    Args:
        component: "text_encoder", "text_encoder_2", "unet" or "vae".
        config: its config.json.
        name: the checkpoint's, for messages.

    Raises CheckpointError if the library does not know such a model.
    """
    transformers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.set_verbosity_error()
    kind: Any = _CLASSES[component]
    try:
        with init_empty_weights():
            if component.startswith("text_encoder"):
                settings = CLIPTextConfig.from_dict(dict(config))
                # Whatever runs elsewhere, exporting wants torch's own attention.
                settings._attn_implementation = "sdpa"
                model = kind(settings)
            else:
                model = kind.from_config(dict(config))
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError):
        # The libraries' messages are for their callers, not for our users.
        raise CheckpointError(
            f"the configuration of {component} in {name} is not one that diffusers {diffusers.__version__} and "
            f"transformers {transformers.__version__} know; use the published checkpoint."
        ) from None
    _share_one_number(model)
    model.eval()
    checked: nn.Module = model
    return checked


def _share_one_number(model: nn.Module) -> None:
    """Make each weight a view of a single 0. Tracing computes, which tensors on the meta device cannot, but does
    not look at the numbers."""
    zero = torch.zeros(())
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            weight = nn.Parameter(zero.expand(parameter.shape), requires_grad=False)
            module.register_parameter(name, weight)
