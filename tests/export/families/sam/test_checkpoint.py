"""SAM out of its published checkpoints, at small sizes: the ViT's numbers, both exports, and the refusals."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from nexus_export.downloads.packages import MOBILE_SAM_ENCODER, PinnedFile
from nexus_export.errors import CheckpointError
from nexus_export.exported import Array, ExportedNetwork
from nexus_export.families.sam.checkpoint import exports
from nexus_export.families.sam.published_onnx import encoder_weights
from nexus_export.families.sam.tiny_vit import TinyVit, fold_norms
from nexus_export.families.sam.vit import PUBLISHED, VitConfig, VitEncoder, config_of
from nexus_export.inference import onnx_run
from nexus_export.onnx_graphs.attention import is_attention
from nexus_export.onnx_graphs.template import fill
from PIL import Image
from torch import Tensor

from tests.export.support import published_sam

# The published structure, with a head for each of the two kinds of block: windows that need padding, and a grid
# that is not a multiple of them.
NARROW = VitConfig(width=32, depth=3, heads=2, global_blocks=frozenset({1}))


def _file(state: dict[str, Tensor], folder: Path) -> Path:
    path = folder / "sam.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _file(published_sam.random_state(NARROW), tmp_path_factory.mktemp("narrow"))


@pytest.fixture(scope="module")
def images(photo: Callable[[str], Image.Image]) -> Array:
    return np.stack([np.asarray(photo(name).resize((1024, 1024))) for name in ("chelsea", "coffee")])


def _run(export: ExportedNetwork, folder: Path, inputs: dict[str, Array]) -> dict[str, Array]:
    path = folder / "model.onnx"
    onnx.save(fill(export.template, export.weights), str(path))
    return onnx_run(path)(inputs)


@pytest.mark.parametrize("window", [14, 7])
def test_our_vit_is_the_published_one(window: int) -> None:
    config = VitConfig(48, 4, 3, frozenset({1, 3}), grid=20, window=window)
    published = published_sam.image_encoder(config)
    state = published_sam.random_state(config, seed=1)
    prefix = "image_encoder."
    encoder = {name.removeprefix(prefix): x for name, x in state.items() if name.startswith(prefix)}
    published.load_state_dict(encoder)
    assert config_of(encoder) == config
    ours = VitEncoder(config).eval()
    ours.load_state_dict(encoder)
    planes = torch.randn(2, 3, 320, 320, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        found, expected = ours(planes), published(planes)
        # The same sums in FP32, in another order at most; the embedding has a deviation of 1.
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
        # Relative positions are part of it: without them, the embedding is another.
        for block in ours.blocks:
            block.attn.rel_pos_h.zero_()  # type: ignore[union-attr, operator]
        assert (ours(planes) - expected).abs().max() > 0.01


@pytest.mark.parametrize("letter", PUBLISHED)
def test_published_names_and_shapes(letter: str) -> None:
    config = PUBLISHED[letter]
    with torch.device("meta"):
        ours, published = VitEncoder(config).state_dict(), published_sam.image_encoder(config).state_dict()
    shapes = {name: tensor.shape for name, tensor in ours.items()}
    assert shapes == {name: tensor.shape for name, tensor in published.items()}
    assert config_of(ours) == config


def test_tiny_vit_with_the_trained_weights(
    published: Callable[[PinnedFile], Path],
    sam_planes: dict[str, Array],
    embeddings: dict[str, Array],
) -> None:
    weights = encoder_weights(onnx.load(str(published(MOBILE_SAM_ENCODER))))
    module = TinyVit().eval()
    fold_norms(module)
    prefix = "image_encoder."
    module.load_state_dict({n.removeprefix(prefix): torch.from_numpy(x.copy()) for n, x in weights.items()})
    with torch.no_grad():
        found = module(torch.from_numpy(sam_planes["coffee"])).numpy()
    # Two libraries' FP32 rounding on embeddings of a deviation of 0.1; the project's bound is 1e-3.
    assert np.abs(found - embeddings["coffee"]).max() < 1e-5


def test_a_vit_becomes_two_networks(narrow: Path, images: Array, tmp_path: Path) -> None:
    encoder, decoder = exports(narrow)
    assert [export.network.name for export in (encoder, decoder)] == ["sam_encoder", "sam_decoder"]
    found = _run(encoder, tmp_path, {"image": images})
    expected = encoder.reference()({"image": images})
    # The project's bound; the embedding has a deviation of 1.
    assert np.abs(found["embedding"] - expected["embedding"]).max() < 1e-3
    assert found["embedding"].shape == (2, 256, 64, 64)
    assert found["embedding"].std() > 0.5
    # One attention a block, and no scores of all pairs of tokens.
    assert sum(is_attention(node) for node in encoder.template.graph.node) == NARROW.depth
    assert not any(node.op_type == "Softmax" for node in encoder.template.graph.node)

    prompts = {
        "embedding": expected["embedding"],
        "points": np.array([[[400, 300], [0, 0]], [[100, 100], [900, 800]]], np.float32),
        "labels": np.array([[1, -1], [2, 3]], np.float32),
        "mask_input": np.zeros((2, 1, 256, 256), np.float32),
        "has_mask": np.zeros((2, 1), np.float32),
    }
    found, expected = _run(decoder, tmp_path, prompts), decoder.reference()(prompts)
    for name in ("masks", "scores"):
        assert np.abs(found[name] - expected[name]).max() < 1e-3
        assert found[name].std() > 0.1


def test_mobile_sam_becomes_two_networks(images: Array, tmp_path: Path) -> None:
    encoder, _ = exports(_file({"model": published_sam.random_state(None)}, tmp_path))  # type: ignore[dict-item]
    found = _run(encoder, tmp_path, {"image": images[:1]})
    # Folding the norms into the convolutions changes nothing but FP32 rounding: the reference is folded too, so
    # the network with its norms is computed here.
    module = TinyVit().eval()
    state = published_sam.random_state(None)
    prefix = "image_encoder."
    own = {name.removeprefix(prefix): x for name, x in state.items() if name.startswith(prefix)}
    module.load_state_dict({name: x for name, x in own.items() if "head." not in name})
    planes = torch.from_numpy(images[:1]).permute(0, 3, 1, 2)
    mean, deviation = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    with torch.no_grad():
        expected = module((planes - mean[:, None, None]) / deviation[:, None, None]).numpy()
    assert np.abs(found["embedding"] - expected).max() < 1e-3
    assert np.abs(encoder.reference()({"image": images[:1]})["embedding"] - expected).max() < 1e-3
    assert expected.std() > 0.5


def _without(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: {"generator.weight": torch.zeros(1)}, "holds no image encoder of SAM"),
        (
            lambda state: _without(state, "image_encoder.blocks.1.attn.rel_pos_h"),
            "is not the architecture of SAM .*blocks.1.attn.rel_pos_h",
        ),
        (
            lambda state: _without(state, "mask_decoder.iou_token.weight"),
            r"is not the architecture of SAM \(no mask_decoder.iou_token.weight\)",
        ),
        (
            lambda state: state | {"image_encoder.blocks.0.mlp.lin1.bias": torch.zeros(5)},
            r"image_encoder.blocks.0.mlp.lin1.bias has the shape \[5\], not \[128\]",
        ),
        (
            lambda state: state | {"image_encoder.extra": torch.zeros(5)},
            r"\(image_encoder.extra is surplus\); use a checkpoint published as SAM",
        ),
        (
            lambda state: state | {"image_encoder.pos_embed": torch.zeros(1, 32, 32, 32)},
            "has an image encoder of 32 patches a side where SAM has 64",
        ),
    ],
)
def test_another_architecture_is_refused(
    narrow: Path,
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    message: str,
    tmp_path: Path,
) -> None:
    path = _file(change(torch.load(narrow, weights_only=True)), tmp_path)
    with pytest.raises(CheckpointError, match=message):
        next(exports(path))
