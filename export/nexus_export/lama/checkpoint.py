"""Reading and writing LaMa weights: the two published forms and our compact one."""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nexus_export.errors import BuildError
from nexus_export.lama.generator import Generator, GeneratorConfig

_CONFIG_KEY = "generator_config"
_PUBLISHED_PREFIXES = ("model.generator.", "generator.")
"""TorchScript first: its names contain the other prefix."""


class _Inert:
    """Stands for the training framework's classes that a Lightning file mentions beside its tensors."""


def load_checkpoint(path: Path) -> Generator:
    """A generator, in eval mode, from a LaMa checkpoint.

    Accepts the published Lightning checkpoint (``state_dict`` with ``generator.*`` keys; the discriminator
    and the rest are ignored), the TorchScript form (``model.generator.*``), and our ``.safetensors``.

    Raises:
        BuildError: the file holds no LaMa generator, or one of another architecture.
    """
    if path.suffix == ".safetensors":
        return read_compact(path)
    state = _published_state(path)
    generator = Generator(_infer_config(state, path))
    expected = generator.state_dict()
    wrong = sorted(
        set(expected) ^ set(state)
        | {key for key in set(expected) & set(state) if expected[key].shape != state[key].shape}
    )
    if wrong:
        raise BuildError(
            f"{path.name} is not the architecture of big-lama (first difference: {wrong[0]}); "
            "use the generator published as big-lama."
        )
    generator.load_state_dict(state)
    return generator.eval()


def write_compact(generator: Generator, path: Path) -> None:
    """Save weights in FP16, the configuration in the header; batch normalisation's counters are left out."""
    tensors = {
        f"generator.{name}": tensor.detach().to("cpu", torch.float16).contiguous()
        for name, tensor in generator.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    save_file(tensors, path, metadata={_CONFIG_KEY: json.dumps(asdict(generator.config))})


def read_compact(path: Path) -> Generator:
    """The generator, in eval mode and FP32, that ``write_compact`` saved.

    Raises:
        BuildError: the file carries no generator configuration.
    """
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if _CONFIG_KEY not in metadata:
            raise BuildError(
                f"{path.name} was not written by this project's LaMa training; fetch the file again."
            )
        tensors = {name.removeprefix("generator."): file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - not a dict
    generator = Generator(GeneratorConfig(**json.loads(metadata[_CONFIG_KEY])))
    counters = {k: v for k, v in generator.state_dict().items() if k.endswith("num_batches_tracked")}
    generator.load_state_dict({**counters, **tensors})
    return generator.eval()


def _published_state(path: Path) -> dict[str, Tensor]:
    if _is_torchscript(path):
        module: nn.Module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        everything: Mapping[str, Any] = module.state_dict()
    else:
        loaded = _load_tensors_only(path)
        everything = loaded.get("state_dict", loaded)
    for prefix in _PUBLISHED_PREFIXES:
        state = {
            name.removeprefix(prefix): value for name, value in everything.items() if name.startswith(prefix)
        }
        if state:
            return state
    raise BuildError(
        f"{path.name} holds no LaMa generator (no key begins with generator.); give a big-lama checkpoint."
    )


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _load_tensors_only(path: Path) -> dict[str, Any]:
    # Lightning pickles references to its callbacks. They are replaced by an inert class, so that the
    # file loads without the framework and still without running any code of the file's choosing.
    names = torch.serialization.get_unsafe_globals_in_checkpoint(path) if zipfile.is_zipfile(path) else []
    with torch.serialization.safe_globals([(_Inert, name) for name in names]):
        loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return loaded


def _infer_config(state: Mapping[str, Tensor], path: Path) -> GeneratorConfig:
    try:
        width = state["model.1.ffc.convl2l.weight"].shape[0]
        downsamplings = sum(f"model.{i}.ffc.convl2l.weight" in state for i in range(2, 8))
        blocks = sum(name.endswith("conv1.ffc.convl2l.weight") for name in state)
        last = f"model.{1 + downsamplings}.ffc"
        local_channels = state[f"{last}.convl2l.weight"].shape[0]
        global_channels = state[f"{last}.convl2g.weight"].shape[0]
    except KeyError as error:
        raise BuildError(
            f"{path.name} is not the architecture of big-lama (no {error.args[0]}); "
            "use the generator published as big-lama."
        ) from None
    return GeneratorConfig(
        width=width,
        downsamplings=downsamplings,
        blocks=blocks,
        global_ratio=global_channels / (local_channels + global_channels),
    )
