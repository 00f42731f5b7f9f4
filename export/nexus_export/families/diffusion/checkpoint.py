"""Open a checkpoint of SDXL or SD 1.5 inpainting in diffusers' format: its networks, one by one.

Exporting holds no model in memory: the modules that are traced have no weights (`empty_models`), and weights are read
from the files one at a time (`model_files`). Only the reference loads a model whole.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nexus_export.errors import CheckpointError
from nexus_export.exported import ExportedNetwork, InferenceFn
from nexus_export.families.diffusion import empty_models
from nexus_export.families.diffusion.checks import check_servable, condition_widths, read_json
from nexus_export.families.diffusion.model_files import LazyWeights, open_model
from nexus_export.families.diffusion.trace import trace
from nexus_export.inference import torch_run
from nexus_export.networks import GROUPS, NETWORKS
from nexus_export.onnx_graphs.template import weight_shapes

# The file that marks a checkpoint of random weights.
RANDOM_WEIGHTS = "RANDOM_WEIGHTS"

_COMPONENTS = {
    "sdxl": ("text_encoder", "text_encoder_2", "unet", "vae"),
    "sd15": ("text_encoder", "unet", "vae"),
}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that passed the checks; models are loaded one by one."""

    tier: str  # "sdxl" or "sd15"
    folder: Path

    @property
    def name(self) -> str:
        """The checkpoint's name in messages."""
        return str(self.folder)

    @property
    def random_weights(self) -> bool:
        """Whether it is untrained: `tiny_checkpoint` wrote it."""
        return (self.folder / RANDOM_WEIGHTS).is_file()

    def config(self, component: str) -> dict[str, Any]:
        """The configuration of one of its models."""
        return read_json(self.folder / component / "config.json", self.name)

    @property
    def half_vae(self) -> bool:
        """Whether the VAE's configuration allows FP16, as that of SDXL's published fp16-fix one does.

        A VAE without the entry is computed in FP32, as in diffusers.
        """
        return self.config("vae").get("force_upcast") is False

    def empty_model(self, component: str) -> Any:
        """The model of this name without its weights, in eval mode: it can be traced, and computes 0.

        Raises CheckpointError if its configuration is not one that the libraries know.
        """
        return empty_models.build(component, self.config(component), self.name)

    def weights(self, component: str) -> LazyWeights:
        """The weights of the model of this name, each read when it is asked for.

        Raises CheckpointError if they are missing, damaged or not its configuration's.
        """
        return open_model(self.folder / component, self.shapes(component), self.name)

    def shapes(self, component: str) -> dict[str, tuple[int, ...]]:
        """The shapes of these weights by name, as the configuration has them."""
        return {
            name: tuple(tensor.shape) for name, tensor in self.empty_model(component).state_dict().items()
        }

    def load(self, component: str) -> Any:
        """The model of this name, on the CPU, in FP32 and in eval mode.

        Raises CheckpointError as `empty_model` and `weights` do.
        """
        model = self.empty_model(component)
        weights = self.weights(component)
        state = {name: torch.from_numpy(weights[name]).float() for name in weights}
        model.load_state_dict(state, assign=True)
        return model


def open_checkpoint(folder: Path, tier: str) -> Checkpoint:
    """Open the checkpoint in `folder`, and check that it can be served.

    Raises CheckpointError if it is not there, is not this tier's inpainting model, or was trained with another noise
    schedule or vocabulary than the pipeline's.
    """
    if not folder.is_dir():
        raise CheckpointError(
            f"there is no folder {folder}; give one, or the name of a published checkpoint."
        )
    if not (folder / "model_index.json").is_file():
        raise CheckpointError(
            f"{folder} is no checkpoint in diffusers' format (it has no model_index.json); give the folder "
            "that does, or convert a single-file checkpoint with diffusers first."
        )
    check_servable(tier, folder)
    return Checkpoint(tier, folder)


def exports(checkpoint: Checkpoint, *networks: str) -> Iterator[ExportedNetwork]:
    """Networks of the checkpoint by name, or all of its tier, in the order of `GROUPS`.

    All weights' names and shapes are checked before the first one comes; none is held. Raises CheckpointError if the
    weights of any model are incomplete or damaged.
    """
    models = {component: checkpoint.weights(component) for component in _COMPONENTS[checkpoint.tier]}
    return (_export(checkpoint, name, models) for name in networks or GROUPS[checkpoint.tier])


def reference(checkpoint: Checkpoint, network: str) -> InferenceFn:
    """The network of this name in torch, in FP32: 10 GB of SDXL's UNet.

    Raises CheckpointError if its weights are incomplete or damaged.
    """
    return torch_run(trace(network, checkpoint.load).module, NETWORKS[network])


def _export(checkpoint: Checkpoint, network: str, models: Mapping[str, LazyWeights]) -> ExportedNetwork:
    traced = trace(network, checkpoint.empty_model)
    template, own = traced.template(), traced.own_state
    sizes = condition_widths(checkpoint.config("unet"))

    def read(name: str) -> NDArray[np.generic]:
        component, _, key = name.partition(".")
        return own[name] if name in own else models[component][key]

    return ExportedNetwork(
        NETWORKS[network],
        template,
        LazyWeights(weight_shapes(template), read),
        partial(reference, checkpoint, network),
        {axis: sizes[axis] for axis in NETWORKS[network].axes if axis in sizes},
        frozenset() if "_vae_" in network and checkpoint.half_vae else None,
    )
