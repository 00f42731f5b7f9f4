"""The published big-lama, written down apart from our code: its key names, shapes and arithmetic."""

import sys
import types
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

State = dict[str, Tensor]

LOCAL, SPREAD, HALF = 128, 384, 192  # of 512 channels at the bottleneck, a quarter local
BLOCKS = range(5, 23)


def _norm(name: str, channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (channels,)
    yield f"{name}.num_batches_tracked", ()


def key_shapes() -> dict[str, tuple[int, ...]]:
    """Every key of the generator and its shape, without the prefix of either file form."""
    shapes: dict[str, tuple[int, ...]] = {"model.1.ffc.convl2l.weight": (64, 4, 7, 7)}
    shapes.update(_norm("model.1.bn_l", 64))
    for index, width in ((2, 64), (3, 128)):
        shapes[f"model.{index}.ffc.convl2l.weight"] = (width * 2, width, 3, 3)
        shapes.update(_norm(f"model.{index}.bn_l", width * 2))
    shapes["model.4.ffc.convl2l.weight"] = (LOCAL, 256, 3, 3)
    shapes["model.4.ffc.convl2g.weight"] = (SPREAD, 256, 3, 3)
    shapes.update(_norm("model.4.bn_l", LOCAL))
    shapes.update(_norm("model.4.bn_g", SPREAD))
    for block in BLOCKS:
        for half in ("conv1", "conv2"):
            ffc = f"model.{block}.{half}.ffc"
            shapes[f"{ffc}.convl2l.weight"] = (LOCAL, LOCAL, 3, 3)
            shapes[f"{ffc}.convl2g.weight"] = (SPREAD, LOCAL, 3, 3)
            shapes[f"{ffc}.convg2l.weight"] = (LOCAL, SPREAD, 3, 3)
            shapes[f"{ffc}.convg2g.conv1.0.weight"] = (HALF, SPREAD, 1, 1)
            shapes.update(_norm(f"{ffc}.convg2g.conv1.1", HALF))
            shapes[f"{ffc}.convg2g.fu.conv_layer.weight"] = (2 * HALF, 2 * HALF, 1, 1)
            shapes.update(_norm(f"{ffc}.convg2g.fu.bn", 2 * HALF))
            shapes[f"{ffc}.convg2g.conv2.weight"] = (SPREAD, HALF, 1, 1)
            shapes.update(_norm(f"model.{block}.{half}.bn_l", LOCAL))
            shapes.update(_norm(f"model.{block}.{half}.bn_g", SPREAD))
    for index, width in ((24, 512), (27, 256), (30, 128)):
        shapes[f"model.{index}.weight"] = (width, width // 2, 3, 3)
        shapes[f"model.{index}.bias"] = (width // 2,)
        shapes.update(_norm(f"model.{index + 1}", width // 2))
    shapes["model.34.weight"] = (3, 64, 7, 7)
    shapes["model.34.bias"] = (3,)
    return shapes


def random_state(seed: int) -> State:
    """Seeded weights of those names and shapes, scaled so that activations neither vanish nor explode."""
    seeded = torch.Generator().manual_seed(seed)
    state: State = {}
    for name, shape in key_shapes().items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(1)
        elif name.endswith("running_var"):
            state[name] = torch.rand(shape, generator=seeded) + 0.5
        elif len(shape) == 1:
            offset = 1.0 if name.endswith("weight") else 0.0
            state[name] = offset + 0.2 * torch.randn(shape, generator=seeded)
        else:
            inputs = shape[1] * shape[2] * shape[3]
            state[name] = torch.randn(shape, generator=seeded) * inputs**-0.5
    # Residual blocks add up: unscaled, the sigmoid would be saturated, and a test of it blind or erratic.
    state["model.34.weight"] *= 0.001
    return state


def forward(state: State, x: Tensor) -> Tensor:
    """big-lama's forward pass, written from the paper and the key names: [B, 4, H, W] to [B, 3, H, W]."""

    def norm(name: str, value: Tensor) -> Tensor:
        mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        return functional.batch_norm(value, mean, variance, weight, bias).relu()

    def convolve(name: str, value: Tensor, stride: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        border = weight.shape[-1] // 2
        padded = functional.pad(value, (border,) * 4, mode="reflect") if border else value
        return functional.conv2d(padded, weight, state.get(f"{name}.bias"), stride)

    def spectral(name: str, value: Tensor) -> Tensor:
        reduced = norm(f"{name}.conv1.1", convolve(f"{name}.conv1.0", value))
        spectrum = torch.view_as_real(torch.fft.rfftn(reduced, dim=(-2, -1), norm="ortho"))
        flat = spectrum.permute(0, 1, 4, 2, 3).flatten(1, 2)
        flat = norm(f"{name}.fu.bn", convolve(f"{name}.fu.conv_layer", flat))
        pairs = torch.unflatten(flat, 1, (-1, 2)).permute(0, 1, 3, 4, 2).contiguous()
        inverse = torch.fft.irfftn(
            torch.view_as_complex(pairs), s=value.shape[-2:], dim=(-2, -1), norm="ortho"
        )
        return convolve(f"{name}.conv2", reduced + inverse)

    def half_block(name: str, local: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
        ffc = f"{name}.ffc"
        out_local = convolve(f"{ffc}.convl2l", local) + convolve(f"{ffc}.convg2l", spread)
        out_spread = convolve(f"{ffc}.convl2g", local) + spectral(f"{ffc}.convg2g", spread)
        return norm(f"{name}.bn_l", out_local), norm(f"{name}.bn_g", out_spread)

    x = norm("model.1.bn_l", convolve("model.1.ffc.convl2l", x))
    for index in (2, 3):
        x = norm(f"model.{index}.bn_l", convolve(f"model.{index}.ffc.convl2l", x, stride=2))
    local = norm("model.4.bn_l", convolve("model.4.ffc.convl2l", x, stride=2))
    spread = norm("model.4.bn_g", convolve("model.4.ffc.convl2g", x, stride=2))
    for block in BLOCKS:
        inner = half_block(f"model.{block}.conv2", *half_block(f"model.{block}.conv1", local, spread))
        local, spread = local + inner[0], spread + inner[1]
    x = torch.cat([local, spread], dim=1)
    for index in (24, 27, 30):
        weight, bias = state[f"model.{index}.weight"], state[f"model.{index}.bias"]
        x = norm(f"model.{index + 1}", functional.conv_transpose2d(x, weight, bias, 2, 1, output_padding=1))
    return convolve("model.34", x).sigmoid()


def write_lightning(state: State, path: Path) -> None:
    """As training left it: other networks beside the generator, and a class of the training framework."""
    module = types.ModuleType("pytorch_lightning")
    callback = type("ModelCheckpoint", (), {"__module__": "pytorch_lightning"})
    module.ModelCheckpoint = callback  # type: ignore[attr-defined]
    sys.modules["pytorch_lightning"] = module
    everything = {f"generator.{name}": tensor for name, tensor in state.items()}
    everything["discriminator.model0.0.weight"] = torch.zeros(64, 3, 4, 4)
    everything["loss_resnet_pl.impl.conv1.weight"] = torch.zeros(64, 3, 7, 7)
    torch.save({"state_dict": everything, "callbacks": {callback: {"best": 1.0}}, "epoch": 3}, path)
    del sys.modules["pytorch_lightning"]


def write_torchscript(state: State, path: Path) -> None:
    """As IOPaint publishes it."""
    module = _module_of({f"model.generator.{name}": tensor for name, tensor in state.items()})
    traced = torch.jit.trace(module, torch.zeros(1))  # type: ignore[no-untyped-call]
    torch.jit.save(traced, str(path))


class _Holder(nn.Module):
    """A module that only carries tensors, as a TorchScript file's inner modules appear to its reader."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def _module_of(state: dict[str, Tensor]) -> nn.Module:
    root = _Holder()
    for name, tensor in state.items():
        *path, last = name.split(".")
        module: nn.Module = root
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, _Holder())
            module = module.get_submodule(part)
        module.register_buffer(last, tensor)
    return root
