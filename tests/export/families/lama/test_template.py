"""The committed LaMa: today's torch code exports its template, and its weights fit."""

from hashlib import sha256
from pathlib import Path

import onnx
import pytest
from nexus_export.families.lama.checkpoint import load_checkpoint
from nexus_export.families.lama.network import COMPACT_CONFIG, LamaNetwork, export_template
from nexus_export.onnx_graphs.template import fill
from nexus_export.paths import LAMA_TEMPLATE, LAMA_WEIGHTS
from safetensors.numpy import load_file

from tests.export.support.same_nodes import assert_same_nodes


@pytest.fixture(scope="module")
def committed() -> onnx.ModelProto:
    return onnx.load(str(LAMA_TEMPLATE))


@pytest.fixture(scope="module")
def exported() -> onnx.ModelProto:
    return export_template(LamaNetwork(load_checkpoint(LAMA_WEIGHTS), pyramid=True))


def test_the_same_nodes(committed: onnx.ModelProto, exported: onnx.ModelProto) -> None:
    assert_same_nodes(committed, exported)


def test_the_same_initializers(committed: onnx.ModelProto, exported: onnx.ModelProto) -> None:
    def described(model: onnx.ModelProto) -> list[tuple[str, int, tuple[int, ...]]]:
        return [(i.name, i.data_type, tuple(i.dims)) for i in model.graph.initializer]

    assert described(committed) == described(exported)


def test_the_same_inputs_and_outputs(committed: onnx.ModelProto, exported: onnx.ModelProto) -> None:
    assert list(committed.graph.input) == list(exported.graph.input)
    assert list(committed.graph.output) == list(exported.graph.output)


def test_the_weights_fill_the_template(committed: onnx.ModelProto) -> None:
    onnx.checker.check_model(fill(committed, load_file(LAMA_WEIGHTS)), full_check=True)
    assert load_checkpoint(LAMA_WEIGHTS).config == COMPACT_CONFIG


def test_the_card_names_both_files() -> None:
    card = (Path(__file__).parents[4] / "MODELS.md").read_text()
    for path in (LAMA_WEIGHTS, LAMA_TEMPLATE):
        assert f"`{sha256(path.read_bytes()).hexdigest()}`" in card, path.name


def test_the_weights_are_small() -> None:
    # The repository's own limit for this file.
    assert LAMA_WEIGHTS.stat().st_size <= 12 * 2**20
