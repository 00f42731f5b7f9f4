"""The committed LaMa: today's torch code exports its template, and its weights fit."""

from hashlib import sha256
from pathlib import Path

import nexus_export
import onnx
import pytest
from nexus_export.lama.checkpoint import load_checkpoint
from nexus_export.lama.network import COMPACT_CONFIG, LamaNetwork, export_template
from nexus_export.onnx_graphs.template import fill
from safetensors.numpy import load_file

from .same_nodes import assert_same_nodes

PACKAGE = Path(nexus_export.__file__).parent
TEMPLATE = PACKAGE / "templates" / "lama_compact.onnx"
WEIGHTS = PACKAGE / "weights" / "lama_compact.safetensors"


@pytest.fixture(scope="module")
def committed() -> onnx.ModelProto:
    return onnx.load(str(TEMPLATE))


@pytest.fixture(scope="module")
def exported() -> onnx.ModelProto:
    return export_template(LamaNetwork(load_checkpoint(WEIGHTS), pyramid=True))


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
    onnx.checker.check_model(fill(committed, load_file(WEIGHTS)), full_check=True)
    assert load_checkpoint(WEIGHTS).config == COMPACT_CONFIG


def test_the_card_names_both_files() -> None:
    card = (PACKAGE.parents[1] / "MODELS.md").read_text()
    for path in (WEIGHTS, TEMPLATE):
        assert f"`{sha256(path.read_bytes()).hexdigest()}`" in card, path.name


def test_the_weights_are_small() -> None:
    # What the repository allows itself for this file.
    assert WEIGHTS.stat().st_size <= 12 * 2**20
