"""Read one model of a diffusers checkpoint tensor by tensor: its files, the names in them, and their shapes.

The weights of a model lie in one file or in several with an index, in FP32 or as the variant "fp16", under the
names of today's libraries or of older ones. Nothing is loaded before it is asked for.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from nexus_export.errors import CheckpointError

# The names that diffusers and transformers give a model's file; of two precisions the full one is taken.
_STEMS = ("diffusion_pytorch_model", "model")
_VARIANTS = ("", ".fp16")

# Names of the autoencoder's attention before diffusers 0.12.
_OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
_ATTENTION = re.compile(r"\.(to_q|to_k|to_v|to_out\.0)\.(weight|bias)$")
# The types that weights are published in, as safetensors calls them. numpy lacks others, such as FP8.
_TYPES = ("F64", "F32", "F16", "BF16")
# A buffer of old text encoders: the numbers from 0 to 76.
_IGNORED = ".position_ids"


class LazyWeights(Mapping[str, NDArray[np.generic]]):
    """Weights by their names, each read when it is asked for."""

    def __init__(self, names: Collection[str], read: Callable[[str], NDArray[np.generic]]) -> None:
        self._names, self._read = names, read

    def __getitem__(self, name: str) -> NDArray[np.generic]:
        return self._read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def open_model(folder: Path, shapes: Mapping[str, tuple[int, ...]], name: str) -> LazyWeights:
    """The weights in `folder` of the model whose state dict has `shapes`; only headers are read.

    FP16 and FP32 come as they are stored, BF16 as FP32, which numpy has.

    Args:
        folder: of one model, "unet" in a checkpoint in diffusers' format.
        shapes: the model's state dict, by the names of today's libraries.
        name: the checkpoint's, for messages.

    Raises CheckpointError if a file is missing, damaged or no safetensors; a weight is missing, of another shape or an
    unknown type, or one that the model does not have.
    """
    try:
        found, files, types = _headers(folder)
    except (OSError, ValueError, KeyError, SafetensorError):
        # The library's messages are for its callers, not for our users.
        raise _refusal(folder, name, "are missing, damaged or not in safetensors format") from None
    stored = {key: _stored_name(key, found) for key in shapes}
    for key, shape in shapes.items():
        if stored[key] not in found:
            raise _refusal(folder, name, f"lack {key}")
        if found[stored[key]] != shape:
            there, wanted = list(found[stored[key]]), list(shape)
            raise _refusal(
                folder, name, f"are not its configuration's ({key} is {there} where it says {wanted})"
            )
        if types[stored[key]] not in _TYPES:
            raise CheckpointError(
                f"the weights of {folder.name} in {name} are stored as {types[stored[key]]} ({key}); "
                "use the checkpoint in FP16, BF16 or FP32."
            )
    surplus = sorted(key for key in found.keys() - set(stored.values()) if not f".{key}".endswith(_IGNORED))
    if surplus:
        raise _refusal(folder, name, f"are not its configuration's (which has no {surplus[0]})")

    def read(key: str) -> NDArray[np.generic]:
        # Opened for each weight: closing the file releases the pages that were read.
        with safe_open(files[stored[key]], "pt") as file:
            tensor: torch.Tensor = file.get_tensor(stored[key])
        array: NDArray[np.generic] = (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()
        return array

    return LazyWeights(stored, read)


def _headers(folder: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, Path], dict[str, str]]:
    """The shape, the file and the type of each tensor in a model's folder, by its name there."""
    shapes, files, types = {}, {}, {}
    for path in _paths(folder):
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118
                part = file.get_slice(key)
                shapes[key], types[key] = tuple(part.get_shape()), part.get_dtype()
                files[key] = path
    return shapes, files, types


def _paths(folder: Path) -> list[Path]:
    for variant in _VARIANTS:
        for stem in _STEMS:
            whole = folder / f"{stem}{variant}.safetensors"
            if whole.is_file():
                return [whole]
            index = folder / f"{stem}.safetensors.index{variant}.json"
            if index.is_file():
                shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
                return [folder / shard for shard in sorted(set(shards))]
    raise FileNotFoundError(folder)


def _stored_name(key: str, found: Collection[str]) -> str:
    """The name that the weight `key` has among those of a file, or `key` where it is not there."""
    old_attention = _ATTENTION.sub(lambda match: f".{_OLD_ATTENTION[match[1]]}.{match[2]}", key)
    # transformers 5 leaves out the prefix that the published text encoders have.
    return next((name for name in (key, old_attention, f"text_model.{key}") if name in found), key)


def _refusal(folder: Path, name: str, fault: str) -> CheckpointError:
    return CheckpointError(f"the weights of {folder.name} in {name} {fault}; fetch the checkpoint again.")
