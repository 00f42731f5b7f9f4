"""Read a checkpoint's tensors from its file, whatever its format, without running code that the file may carry.

It knows formats, not networks: the families' `checkpoint` modules know which tensors a network needs.
"""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from nexus_export.errors import CheckpointError
from nexus_export.families import torchscript_archive

# The keys under which training frameworks keep the weights, beside their own state.
_NESTINGS = ("state_dict", "model")

# Packages whose objects published checkpoints mention beside their tensors: the state of their training.
_TRAINING_STATE = frozenset({"pytorch_lightning", "lightning", "omegaconf", "typing", "argparse", "numpy"})
_PLAIN_TYPES = frozenset(
    {"collections.defaultdict", *(f"builtins.{name}" for name in ("dict", "list", "int", "float", "str"))}
)


class _Inert:
    """Stands for every object beside the tensors: accepts any arguments and state, and ignores them."""

    def __init__(self, *_: object) -> None:
        pass

    def __new__(cls, *_: object) -> "_Inert":
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name: .pth, .pt and .ckpt of torch, TorchScript archives, .safetensors.

    Weights nested under "state_dict" or "model" are found. Where the format allows it the tensors are views of the
    file, mapped into memory: they take none until they are read, and the file must stay while they are in use.
    No code that the file carries is run: the objects of training frameworks are left out, and any other is refused.

    Raises CheckpointError if the file is missing, damaged, no checkpoint, or carries code.
    """
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; give the checkpoint's file.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = _read_zip(path) if zipfile.is_zipfile(path) else _read_old(path)
    except FileNotFoundError:
        raise CheckpointError(f"there is no file {path}; check the path.") from None
    except OSError as error:
        raise CheckpointError(
            f"{path.name} cannot be read ({error.strerror}); check the file's permissions."
        ) from None
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path.name} is damaged, or carries code beside its weights, which is never run; "
            "take the file from its publisher."
        ) from None
    except CheckpointError:
        raise
    except Exception as error:
        # Damaged bytes can make four formats' readers raise nearly anything.
        raise CheckpointError(f"{path.name} is damaged or no checkpoint; fetch the file again.") from error
    return _tensors(loaded, path)


def check_architecture(
    path: Path, state: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], published: str
) -> None:
    """Check that `state`, read from `path`, has exactly the names and shapes of `expected`.

    `published` is the name under which that architecture was published: "big-lama".

    Raises CheckpointError if it has others; the text names the first, in the order of `expected`.
    """
    difference = next(iter(_differences(state, expected)), None)
    if difference is not None:
        raise CheckpointError(
            f"{path.name} is not the architecture of {published} ({difference}); "
            f"use a checkpoint published as {published}."
        )


def _differences(state: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    found = []
    for name, shape in expected.items():
        if name not in state:
            found.append(f"no {name}")
        elif tuple(state[name].shape) != shape:
            found.append(f"{name} has the shape {list(state[name].shape)}, not {list(shape)}")
    return found + [f"{name} is surplus" for name in state if name not in expected]


def _read_zip(path: Path) -> Any:
    """torch's format since 1.6 (2020), and TorchScript's."""
    with zipfile.ZipFile(path) as archive:
        if torchscript_archive.is_torchscript(archive):
            return torchscript_archive.read_tensors(path)
    mentioned = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    code = sorted(name for name in mentioned if not _is_training_state(name))
    if code:
        raise CheckpointError(
            f"{path.name} carries code beside its weights ({code[0]}), which is never run; "
            "take the file from its publisher."
        )
    # Their objects are replaced by inert ones, so that the file loads without their packages.
    with torch.serialization.safe_globals([(_Inert, name) for name in mentioned]):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def _read_old(path: Path) -> Any:
    """torch's format before 1.6: a row of pickles. It cannot be mapped."""
    with path.open("rb") as stream:
        start = stream.read(4)
    if not start.startswith(pickle.PROTO):
        # A file that begins like a zip file and is none was cut off: the list of its records is at the end.
        raise ValueError(start)
    return torch.load(path, map_location="cpu", weights_only=True)


def _is_training_state(name: str) -> bool:
    return name.partition(".")[0] in _TRAINING_STATE or name in _PLAIN_TYPES


def _tensors(loaded: Any, path: Path) -> dict[str, Tensor]:
    for nesting in _NESTINGS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(nesting), Mapping):
            loaded = loaded[nesting]
    named = loaded if isinstance(loaded, Mapping) else {}
    tensors = {name: value for name, value in named.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(f"{path.name} holds no weights by name; give a checkpoint's state dict.")
    return tensors
