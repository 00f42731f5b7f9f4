"""Loading LaMa: the published forms at full size, our compact form, and the refusals."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from nexus_export.errors import CheckpointError
from nexus_export.families.lama.checkpoint import exports, load_checkpoint, read_compact, write_compact
from nexus_export.families.lama.generator import Generator, GeneratorConfig
from nexus_export.families.lama.network import COMPACT_CONFIG
from nexus_export.onnx_graphs.template import fill
from nexus_export.paths import WEIGHTS
from onnx import helper
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.export.support import published_lama


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return published_lama.random_state(seed=0)


@pytest.fixture(scope="module")
def lightning_file(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As training left it: other networks beside the generator, and a class of the training framework."""
    path = tmp_path_factory.mktemp("lightning") / "best.ckpt"
    published_lama.write_lightning(state, path)
    return path


@pytest.fixture(scope="module")
def torchscript_file(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("torchscript") / "big-lama.pt"
    published_lama.write_torchscript(state, path)
    return path


def test_our_names_and_shapes_are_the_published_ones() -> None:
    with torch.device("meta"):
        ours = Generator(GeneratorConfig()).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in ours.items()} == published_lama.key_shapes()
    assert sum(tensor.numel() for name, tensor in ours.items() if "running" not in name) == pytest.approx(
        51e6, rel=0.01
    )


@pytest.mark.parametrize("form", ["lightning_file", "torchscript_file"])
def test_full_size_forward_is_the_published_one(
    state: dict[str, Tensor], form: str, request: pytest.FixtureRequest
) -> None:
    generator = load_checkpoint(request.getfixturevalue(form))
    assert generator.config == GeneratorConfig()
    x = torch.rand(1, 4, 64, 48, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = published_lama.forward(state, x)
        # The same operations in the same order, up to the padding that is shared: FP32 rounding.
        torch.testing.assert_close(generator(x), expected, atol=1e-5, rtol=0)
    assert expected.std() > 0.05


def test_full_size_export_keeps_parity(state: dict[str, Tensor], torchscript_file: Path) -> None:
    [export] = exports(torchscript_file)
    model = fill(export.template, export.weights)
    (rounding,) = (node for node in model.graph.node if node.op_type == "Round")
    model.graph.output.append(helper.make_tensor_value_info(rounding.input[0], onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 40, 56, 3), dtype=np.uint8)
    mask = np.zeros((1, 40, 56, 1), np.uint8)
    mask[:, 8:30, 10:40] = 1
    filled, scaled = session.run(None, {"image": image, "mask": mask})
    pixels = torch.from_numpy(image * (1 - mask)).permute(0, 3, 1, 2) / 255.0
    with torch.no_grad():
        x = torch.cat([pixels, torch.from_numpy(mask).permute(0, 3, 1, 2).float()], dim=1)
        expected = published_lama.forward(state, x).numpy()
    # The project's bound for this export.
    assert np.abs(scaled / 255.0 - expected).max() < 1e-3
    # A sum's last digit can turn a rounding.
    assert (
        np.abs(filled.astype(int) - export.reference()({"image": image, "mask": mask})["filled"]).max() <= 1
    )


def test_our_own_form_exports_with_its_pyramid() -> None:
    [export] = exports(WEIGHTS / "lama_compact.safetensors")
    session = onnxruntime.InferenceSession(
        fill(export.template, export.weights).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(0)
    row = {
        "image": rng.integers(0, 256, (1, 64, 96, 3), dtype=np.uint8),
        "mask": np.ones((1, 64, 96, 1), np.uint8),
    }
    row["mask"][:, :20] = 0
    [filled] = session.run(None, row)
    assert np.abs(filled.astype(int) - export.reference()(row)["filled"]).max() <= 1
    # Random pixels give no edge to carry on, so the fill stays near their mean; a blanked hole would be dark.
    assert abs(filled[:, 40:].mean() - 127.5) < 20


def test_compact_form_keeps_weights_to_half_precision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = Generator(COMPACT_CONFIG)
    path = tmp_path / "compact.safetensors"
    write_compact(generator, path)
    loaded = read_compact(path)
    assert loaded.config == COMPACT_CONFIG
    assert not loaded.training
    for name, tensor in generator.state_dict().items():
        # FP16 has 11 significant bits; below 6e-5 its spacing is 6e-8.
        torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=2**-11, atol=6e-8)


def test_another_architecture_is_refused_in_one_sentence(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "other.ckpt"
    extra = {"generator.model.5.conv1.ffc.convg2g.lfu.bn.bias": torch.zeros(2)}
    torch.save(
        {"state_dict": {f"generator.{n}": t[:1] if t.dim() else t for n, t in state.items()} | extra}, path
    )
    with pytest.raises(CheckpointError, match="not the architecture of big-lama"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {"unet.weight": torch.zeros(1)}}, "holds no LaMa generator"),
        ({"state_dict": {"generator.first.weight": torch.zeros(1)}}, "not the architecture of big-lama"),
    ],
)
def test_a_foreign_checkpoint_is_refused(content: dict[str, object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "foreign.ckpt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


def _resave(path: Path, tensors: dict[str, Tensor], config: dict[str, object]) -> Path:
    save_file(tensors, path, metadata={"generator_config": json.dumps(config)})
    return path


def test_foreign_safetensors_are_refused(tmp_path: Path) -> None:
    """Files of other writers, such as big-lama in this format, and ours with other keys or weights."""
    path = tmp_path / "foreign.safetensors"
    save_file({"generator.model.1.ffc.convl2l.weight": torch.zeros(1)}, path)
    with pytest.raises(
        CheckpointError, match=r"not written by this project's LaMa training; give big-lama as"
    ):
        load_checkpoint(path)
    write_compact(Generator(COMPACT_CONFIG), path)
    tensors, config = load_file(path), asdict(COMPACT_CONFIG)
    with pytest.raises(CheckpointError, match=r"a generator configuration of another version; "):
        load_checkpoint(_resave(path, tensors, {**config, "heads": 3}))
    # A network from before there was grain had three outputs.
    plain = {
        key: tensor[:3] if len(tensor) == COMPACT_CONFIG.outputs else tensor
        for key, tensor in tensors.items()
    }
    with pytest.raises(CheckpointError, match=r"a generator configuration of another version; "):
        load_checkpoint(_resave(path, plain, config))
    with pytest.raises(CheckpointError, match=r"not the architecture of lama_compact \(.* has the shape "):
        load_checkpoint(_resave(path, tensors, {**config, "width": 16}))
    name = next(iter(tensors))
    lacking = {key: tensor for key, tensor in tensors.items() if key != name}
    with pytest.raises(CheckpointError, match=rf"\(no {name.removeprefix('generator.')}\)"):
        load_checkpoint(_resave(path, lacking, config))
