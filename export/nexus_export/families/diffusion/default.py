"""The default profile's tiers: the compact SDXL that comes with this package, and SD 1.5 of seeded random weights."""

import tempfile
from functools import cache, partial
from pathlib import Path

import numpy as np
import onnx

from nexus_export.exported import InferenceFn
from nexus_export.families.diffusion import compact_checkpoint, seeded_weights
from nexus_export.families.recipe import Parts, Recipe
from nexus_export.networks import GROUPS
from nexus_export.onnx_graphs import template
from nexus_export.paths import TEMPLATES

# The JSON file beside a tier's networks; see `tier_files`.
CONFIGS = {"sdxl": TEMPLATES / "compact_sdxl.json", "sd15": TEMPLATES / "tiny_sd15.json"}
# See tiny_checkpoint.
_TINY_WIDTHS = {"context_width": 32}


def _make_sdxl(folder: Path, path: Path) -> Parts:
    graph = onnx.load(str(path))
    return graph, compact_checkpoint.compact_weights(folder, template.weight_shapes(graph))


def _sdxl_reference(folder: Path, network: str) -> InferenceFn:
    """diffusers' and transformers' own models with the weights in `folder`."""
    from nexus_export.families.diffusion.checkpoint import Checkpoint, reference

    return reference(Checkpoint("sdxl", folder), network)


def _sdxl(network: str) -> Recipe:
    path = TEMPLATES / f"compact_{network}.onnx"
    return Recipe(
        network,
        compact_checkpoint.FOLDER,
        partial(_make_sdxl, path=path),
        partial(_sdxl_reference, network=network),
        (compact_checkpoint, template),
        path,
        fixed_dims=partial(compact_checkpoint.compact_widths, compact_checkpoint.FOLDER),
    )


def _make_sd15(path: Path) -> Parts:
    graph = onnx.load(str(path))
    weights = seeded_weights.seeded_weights(template.weight_shapes(graph))
    if "scaling_factor" in weights:
        weights["scaling_factor"] = np.array(seeded_weights.SCALING_FACTORS["sd15"], np.float32)
    return graph, weights


def _sd15_reference(_: Path, network: str) -> InferenceFn:
    """diffusers' and transformers' own models with the seeded random weights."""
    from nexus_export.families.diffusion.checkpoint import Checkpoint, reference

    return reference(Checkpoint("sd15", Path(_tiny_checkpoint().name)), network)


@cache
def _tiny_checkpoint() -> "tempfile.TemporaryDirectory[str]":
    """A checkpoint that is deleted when the process ends."""
    from nexus_export.families.diffusion.tiny_checkpoint import write_tiny_checkpoint

    folder = tempfile.TemporaryDirectory(prefix="nexus-tiny-")
    write_tiny_checkpoint("sd15", Path(folder.name), [])
    return folder


def _sd15(network: str) -> Recipe:
    return Recipe(
        network,
        TEMPLATES / f"tiny_{network}.onnx",
        _make_sd15,
        partial(_sd15_reference, network=network),
        (seeded_weights, template),
        random=True,
        fixed_dims=lambda: _TINY_WIDTHS,
    )


SDXL_RECIPES = tuple(_sdxl(network) for network in GROUPS["sdxl"])
SD15_RECIPES = tuple(_sd15(network) for network in GROUPS["sd15"])
