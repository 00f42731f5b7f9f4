"""A model's weights come from its files as they are published: precisions, shards, names of older libraries."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nexus_export.errors import CheckpointError
from nexus_export.families.diffusion.checkpoint import open_checkpoint
from safetensors.torch import load_file, save_file

# The step of the smallest FP16 numbers.
SUBNORMAL = 2.0**-24
COMPONENTS = ("text_encoder", "unet", "vae")
OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
Tensors = dict[str, torch.Tensor]


@pytest.fixture
def copy(tiny_checkpoint: Callable[[str], Path], tmp_path: Path) -> Path:
    """A writable copy of SD 1.5's tiny checkpoint."""
    return Path(shutil.copytree(tiny_checkpoint("sd15"), tmp_path / "checkpoint"))


def _rewrite(folder: Path, change: Callable[[Tensors], Tensors], name: str = "{}.safetensors") -> None:
    [path] = folder.glob("*.safetensors")
    tensors = change(load_file(path))
    path.unlink()
    save_file(tensors, path.with_name(name.format(path.stem)))


def _old_names(tensors: Tensors) -> Tensors:
    renamed = {}
    for name, tensor in tensors.items():
        for new, old in OLD_NAMES.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        renamed[name] = tensor
    return renamed


def _published_names(tensors: Tensors) -> Tensors:
    positions = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    return positions | {f"text_model.{name}": tensor for name, tensor in tensors.items()}


def _assert_same(copy: Path, original: Path, component: str, tolerance: float = 0.0) -> None:
    """That the weights are the original's, also loaded as a model."""
    checkpoint = open_checkpoint(copy, "sd15")
    expected: Mapping[str, Any] = open_checkpoint(original, "sd15").weights(component)
    weights: Mapping[str, Any] = checkpoint.weights(component)
    state = checkpoint.load(component).state_dict()
    assert list(weights) == list(expected) == list(state)
    for name, weight in expected.items():
        np.testing.assert_allclose(weights[name], weight, rtol=tolerance, atol=SUBNORMAL if tolerance else 0)
        assert state[name].dtype == torch.float32
        assert np.array_equal(state[name].numpy(), weights[name].astype(np.float32))


def test_names_of_older_libraries(copy: Path, tiny_checkpoint: Callable[[str], Path]) -> None:
    _rewrite(copy / "vae", _old_names)
    _rewrite(copy / "text_encoder", _published_names)
    assert "decoder.mid_block.attentions.0.query.weight" in load_file(
        copy / "vae" / "diffusion_pytorch_model.safetensors"
    )
    for component in ("vae", "text_encoder"):
        _assert_same(copy, tiny_checkpoint("sd15"), component)


@pytest.mark.parametrize(
    # Half a step of each type, relative to the number.
    ("dtype", "tolerance"),
    [(torch.float16, 2.0**-11), (torch.bfloat16, 2.0**-8)],
)
def test_half_precision(
    dtype: torch.dtype, tolerance: float, copy: Path, tiny_checkpoint: Callable[[str], Path]
) -> None:
    for component in COMPONENTS:
        _rewrite(
            copy / component,
            lambda tensors: {name: tensor.to(dtype) for name, tensor in tensors.items()},
            "{}.fp16.safetensors",
        )
        _assert_same(copy, tiny_checkpoint("sd15"), component, tolerance)


def test_the_full_precision_of_two_is_taken(copy: Path, tiny_checkpoint: Callable[[str], Path]) -> None:
    (copy / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"never read")
    _assert_same(copy, tiny_checkpoint("sd15"), "unet")


def test_shards(copy: Path, tiny_checkpoint: Callable[[str], Path]) -> None:
    folder = copy / "unet"
    [path] = folder.glob("*.safetensors")
    tensors = load_file(path)
    path.unlink()
    names = sorted(tensors)
    parts = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for file, held in parts.items():
        save_file({name: tensors[name] for name in held}, folder / file)
    places = {name: file for file, held in parts.items() for name in held}
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    _assert_same(copy, tiny_checkpoint("sd15"), "unet")
    (folder / "two.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"weights of unet .* missing, damaged or .*; fetch"):
        open_checkpoint(copy, "sd15").weights("unet")


def test_a_weight_that_the_configuration_does_not_have(copy: Path) -> None:
    _rewrite(copy / "unet", lambda tensors: {**tensors, "up_blocks.9.conv.bias": torch.zeros(1)})
    with pytest.raises(
        CheckpointError, match=r"not its configuration's \(which has no up_blocks.9.conv.bias"
    ):
        open_checkpoint(copy, "sd15").weights("unet")


def test_weights_in_fp8_are_refused(copy: Path) -> None:
    _rewrite(
        copy / "unet",
        lambda tensors: {name: tensor.to(torch.float8_e4m3fn) for name, tensor in tensors.items()},
    )
    with pytest.raises(
        CheckpointError, match=r"of unet in .* stored as F8_E4M3 \(.*\); use the checkpoint in FP16"
    ):
        open_checkpoint(copy, "sd15").weights("unet")


def test_pickled_weights_are_refused(copy: Path) -> None:
    [path] = (copy / "unet").glob("*.safetensors")
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()
    with pytest.raises(CheckpointError, match="not in safetensors format; fetch the checkpoint again"):
        open_checkpoint(copy, "sd15").weights("unet")


def test_another_vae(copy: Path, tiny_checkpoint: Callable[[str], Path]) -> None:
    _rewrite(copy / "vae", lambda tensors: {name: tensor * 2 for name, tensor in tensors.items()})
    own = open_checkpoint(tiny_checkpoint("sd15"), "sd15").weights("vae")
    weights = open_checkpoint(copy, "sd15").weights("vae")
    assert np.array_equal(weights["quant_conv.weight"], 2 * own["quant_conv.weight"])
