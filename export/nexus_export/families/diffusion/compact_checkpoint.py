"""The compact SDXL that comes with this package, a checkpoint in diffusers' format; read here without torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from nexus_export.families.diffusion.checks import condition_widths, read_json
from nexus_export.paths import WEIGHTS

FOLDER = WEIGHTS / "sdxl_compact"


def compact_weights(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[np.generic]]:
    """Those of `shapes` that the checkpoint has, in FP16, by the names of a template: "unet.conv_in.weight"."""
    weights: dict[str, NDArray[np.generic]] = {}
    for component in sorted({name.partition(".")[0] for name in shapes if "." in name}):
        for path in sorted((folder / component).glob("*.safetensors")):
            weights |= {f"{component}.{name}": array for name, array in load_file(path).items()}
    if "scaling_factor" in shapes:
        weights["scaling_factor"] = np.array(_config(folder, "vae")["scaling_factor"], np.float32)
    return {name: weights[name] for name in shapes if name in weights}


def compact_widths(folder: Path) -> dict[str, int]:
    """The widths of its conditions, by the names of their axes."""
    return condition_widths(_config(folder, "unet"))


def _config(folder: Path, component: str) -> dict[str, Any]:
    return read_json(folder / component / "config.json", str(folder))
