"""LaMa's weights: the two published forms and our compact one, read, written and exported."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from nexus_export.errors import CheckpointError
from nexus_export.exported import ExportedNetwork
from nexus_export.families.checkpoint_files import check_architecture, read_state
from nexus_export.families.lama.generator import OUT_CHANNELS, Generator, GeneratorConfig
from nexus_export.families.lama.network import LamaNetwork, export_template
from nexus_export.inference import exported_module
from nexus_export.networks import NETWORKS

_CONFIG_KEY = "generator_config"
# TorchScript first: its names contain the other prefix.
_PUBLISHED_PREFIXES = ("model.generator.", "generator.")


def exports(path: Path) -> Iterator[ExportedNetwork]:
    """The network "lama" out of a checkpoint in any of the three forms.

    The reference computes its Fourier transforms by torch.fft, the graph by matrix products.

    Raises CheckpointError as `load_checkpoint` does.
    """
    generator = load_checkpoint(path)
    # Our own was trained to correct the pyramid's fill, the published one to fill a blanked hole.
    module = LamaNetwork(generator, pyramid=generator.config.output == "residual")
    yield exported_module(module, NETWORKS["lama"], export_template(module))


def load_checkpoint(path: Path) -> Generator:
    """A generator, in eval mode, from a LaMa checkpoint.

    Accepts the published Lightning checkpoint (`state_dict` with `generator.*` keys; the discriminator
    and the rest are ignored), the TorchScript form (`model.generator.*`), and our `.safetensors`.

    Raises CheckpointError if the file cannot be read safely, holds no LaMa generator, or one of another architecture.
    """
    if path.suffix == ".safetensors":
        return read_compact(path)
    state = _published_state(path)
    generator = Generator(_infer_config(state, path))
    expected = {name: tuple(tensor.shape) for name, tensor in generator.state_dict().items()}
    check_architecture(path, state, expected, "big-lama")
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
    """The generator, in eval mode and FP32, that `write_compact` saved.

    Raises CheckpointError if the file is missing, damaged, carries no generator configuration, or one of other
    weights.
    """
    tensors = {name.removeprefix("generator."): tensor.float() for name, tensor in read_state(path).items()}
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    if _CONFIG_KEY not in metadata:
        raise CheckpointError(
            f"{path.name} was not written by this project's LaMa training; give big-lama as it was published, "
            "a .pt or .ckpt file."
        )
    another_version = CheckpointError(
        f"{path.name} has a generator configuration of another version; train it again or take this version's file."
    )
    try:
        generator = Generator(GeneratorConfig(**json.loads(metadata[_CONFIG_KEY])))
    except (TypeError, ValueError):
        raise another_version from None
    own = generator.state_dict()
    counters = {name: value for name, value in own.items() if name.endswith("num_batches_tracked")}
    state = {**counters, **tensors}
    last = f"model.{len(generator.model) - 1}.bias"
    if last in state and len(state[last]) == OUT_CHANNELS != len(own[last]):
        raise another_version  # from before there was grain
    check_architecture(path, state, {name: tuple(value.shape) for name, value in own.items()}, "lama_compact")
    generator.load_state_dict(state)
    return generator.eval()


def _published_state(path: Path) -> dict[str, Tensor]:
    everything = read_state(path)
    for prefix in _PUBLISHED_PREFIXES:
        state = {
            name.removeprefix(prefix): value for name, value in everything.items() if name.startswith(prefix)
        }
        if state:
            return state
    raise CheckpointError(
        f"{path.name} holds no LaMa generator (no key begins with generator.); give a big-lama checkpoint."
    )


def _infer_config(state: Mapping[str, Tensor], path: Path) -> GeneratorConfig:
    try:
        width = state["model.1.ffc.convl2l.weight"].shape[0]
        downsamplings = sum(f"model.{i}.ffc.convl2l.weight" in state for i in range(2, 8))
        blocks = sum(name.endswith("conv1.ffc.convl2l.weight") for name in state)
        last = f"model.{1 + downsamplings}.ffc"
        local_channels = state[f"{last}.convl2l.weight"].shape[0]
        global_channels = state[f"{last}.convl2g.weight"].shape[0]
    except KeyError as error:
        raise CheckpointError(
            f"{path.name} is not the architecture of big-lama (no {error.args[0]}); "
            "use a checkpoint published as big-lama."
        ) from None
    return GeneratorConfig(
        width=width,
        downsamplings=downsamplings,
        blocks=blocks,
        global_ratio=global_channels / (local_channels + global_channels),
    )
