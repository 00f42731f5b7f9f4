"""SAM 2's two networks against transformers' implementation, on a narrow backbone and random weights."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from nexus_export.families.checkpoint_files import read_state
from nexus_export.families.sam import windows
from nexus_export.families.sam2.hiera import bicubic_matrix
from nexus_export.networks import NETWORKS, artifact
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from tests.export.support.narrow_sam2 import CONFIG, build, write_checkpoint
from tests.export.support.published_sam2 import PublishedSam2

Floats = NDArray[np.float32]
Maps = dict[str, Floats]

# Points in the 1024 frame and their labels, without the -1 that closes every prompt.
PROMPTS = {
    "one click": ([(512, 300)], [1]),
    "a negative click": ([(512, 300), (400, 400), (100, 100)], [1, 1, 0]),
    "a box": ([(200, 150), (800, 600)], [2, 3]),
    "a click in a box": ([(512, 300), (200, 150), (800, 600)], [1, 2, 3]),
}


# An earlier answer's logits.
MASK = np.where(np.indices((256, 256)).sum(0) < 256, 6, -6).astype(np.float32)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sam2") / "narrow.pt"
    write_checkpoint(path)
    return path


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> PublishedSam2:
    return PublishedSam2(read_state(checkpoint), CONFIG)


@pytest.fixture(scope="module")
def sessions(
    checkpoint: Path, open_session: Callable[[Path], onnxruntime.InferenceSession]
) -> dict[str, onnxruntime.InferenceSession]:
    build(checkpoint.parent, checkpoint)
    names = ("sam2_encoder", "sam2_decoder")
    return {name: open_session(artifact(name, checkpoint.parent)) for name in names}


@pytest.fixture(scope="module")
def images(photo: Callable[[str], Image.Image]) -> NDArray[np.uint8]:
    """Two photos, stretched to the square: UINT8 [2,1024,1024,3]."""
    return np.stack([np.asarray(photo(name).resize((1024, 1024))) for name in ("coffee", "rocket")])


@pytest.fixture(scope="module")
def maps(sessions: dict[str, onnxruntime.InferenceSession], images: NDArray[np.uint8]) -> Maps:
    return _run(sessions["sam2_encoder"], image=images)


def _run(session: onnxruntime.InferenceSession, **inputs: NDArray[np.generic]) -> Maps:
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, inputs)))


def _row(maps: Maps, index: int) -> Maps:
    return {name: value[index : index + 1] for name, value in maps.items()}


def _inputs(prompt: str, mask: Floats | None = None, tokens: int = 0) -> Maps:
    points, labels = PROMPTS[prompt]
    spare = max(0, tokens - len(labels) - 1)
    return {
        "points": np.array([[*points, (0, 0), *[(321, 321)] * spare]], np.float32),
        "labels": np.array([[*labels, -1, *[-2] * spare]], np.float32),
        "mask_input": np.zeros((1, 1, 256, 256), np.float32) if mask is None else mask[None, None],
        "has_mask": np.array([[mask is not None]], np.float32),
    }


def test_encoder_matches_transformers(
    maps: Maps, images: NDArray[np.uint8], reference: PublishedSam2
) -> None:
    expected = reference.encode(images)
    assert list(maps) == list(expected)
    for name, values in expected.items():
        assert maps[name].shape == values.shape
        # Deviations of 0.25 to 1 of random weights; FP32 rounding (2e-6 measured) is all there may be between them.
        assert values.std() > 0.2
        assert np.abs(maps[name] - values).max() < 2e-5


@pytest.mark.parametrize("prompt", PROMPTS)
def test_decoder_matches_transformers(
    sessions: dict[str, onnxruntime.InferenceSession], maps: Maps, reference: PublishedSam2, prompt: str
) -> None:
    row, inputs = _row(maps, 1), _inputs(prompt, MASK if prompt == "a box" else None)
    found = _run(sessions["sam2_decoder"], **row, **inputs)
    points, labels = inputs["points"][0, :-1], inputs["labels"][0, :-1]
    masks, scores = reference.decode(row, points, labels, MASK if prompt == "a box" else None)
    # Logits of random weights deviate by 0.1: FP32 rounding alone (1e-6 measured).
    assert masks.std() > 0.05
    assert np.abs(found["masks"][0] - masks).max() < 1e-5
    assert np.abs(found["scores"][0] - scores).max() < 1e-6
    assert np.ptp(scores) > 0.01


@pytest.mark.parametrize("prompt", PROMPTS)
def test_filler_changes_nothing(
    sessions: dict[str, onnxruntime.InferenceSession], maps: Maps, prompt: str
) -> None:
    row = _row(maps, 0)
    plain = _run(sessions["sam2_decoder"], **row, **_inputs(prompt))
    filled = _run(sessions["sam2_decoder"], **row, **_inputs(prompt, tokens=16))
    for name, values in plain.items():
        # A hidden key's weight is exactly 0; only the order of longer sums may differ.
        assert np.abs(filled[name] - values).max() < 1e-5


def test_rows_of_a_batch_equal_their_twins(
    sessions: dict[str, onnxruntime.InferenceSession], maps: Maps, images: NDArray[np.uint8]
) -> None:
    for index in range(2):
        alone = _run(sessions["sam2_encoder"], image=images[index : index + 1])
        # Products of another height may be summed in another order.
        assert all(np.abs(alone[name] - values[index]).max() < 2e-5 for name, values in maps.items())
    prompts = [_inputs("one click", tokens=8), _inputs("a box", MASK, tokens=8)]
    batch = {name: np.concatenate([inputs[name] for inputs in prompts]) for name in prompts[0]}
    together = _run(sessions["sam2_decoder"], **maps, **batch)
    for index, inputs in enumerate(prompts):
        alone = _run(sessions["sam2_decoder"], **_row(maps, index), **inputs)
        assert np.abs(together["masks"][index] - alone["masks"]).max() < 1e-5
        assert np.abs(together["scores"][index] - alone["scores"]).max() < 1e-6


@pytest.mark.parametrize("name", ["sam2_encoder", "sam2_decoder"])
def test_graph_has_the_registry_s_inputs_and_outputs(
    sessions: dict[str, onnxruntime.InferenceSession], name: str
) -> None:
    types = {"tensor(uint8)": "UINT8", "tensor(float)": "FP32"}
    for values, tensors in (
        (sessions[name].get_inputs(), NETWORKS[name].inputs),
        (sessions[name].get_outputs(), NETWORKS[name].outputs),
    ):
        found = [(value.name, types[value.type], tuple(value.shape)) for value in values]
        assert found == [(tensor.name, tensor.dtype, ("batch", *tensor.dims)) for tensor in tensors]


def test_every_attention_of_the_encoder_is_one_node(
    checkpoint: Path, sessions: dict[str, onnxruntime.InferenceSession]
) -> None:
    assert sessions
    nodes = onnx.load(str(artifact("sam2_encoder", checkpoint.parent))).graph.node
    kinds = [node.op_type for node in nodes]
    assert kinds.count("MultiHeadAttention") == sum(CONFIG.stages)
    assert "Softmax" not in kinds


@pytest.mark.parametrize("size", [7, 14])
def test_the_matrix_interpolates_as_torch_does(size: int) -> None:
    # The published code stretches the positions so, once for every image.
    small = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(size))
    expected = functional.interpolate(small, size=(256, 256), mode="bicubic")
    matrix = bicubic_matrix(size, 256)
    assert (matrix @ small @ matrix.T - expected).abs().max() < 1e-5  # sums of 16 products in another order


@pytest.mark.parametrize(("window", "count"), [(8, 4), (7, 9), (16, 1)])
def test_windows_come_back_as_they_were(window: int, count: int) -> None:
    image = torch.randn(2, 16, 16, 3)
    cut = windows.split(image, 16, window, 3)
    assert cut.shape == (2 * count, window, window, 3)
    assert torch.equal(windows.join(cut, 16, window, 3), image)
    assert torch.equal(cut[0, :7, :7], image[0, :7, :7])
    if 16 % window:
        assert not cut[count - 1, 16 % window :].any()
