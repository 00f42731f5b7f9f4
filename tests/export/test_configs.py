"""Every network's config.pbtxt against the inputs and outputs that its artifact really has."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
from google.protobuf import text_format
from nexus_export.default_profile import RECIPES
from nexus_export.networks import GROUPS, NETWORKS, TIERS
from onnx import TensorProto
from tritonclient.grpc import model_config_pb2

ROOT = Path(__file__).parents[2]

TYPES = {
    model_config_pb2.TYPE_UINT8: TensorProto.UINT8,
    model_config_pb2.TYPE_FP32: TensorProto.FLOAT,
    model_config_pb2.TYPE_INT32: TensorProto.INT32,
}

# Their conditions are as wide as the checkpoint makes them: a warm-up could not name a size that fits all.
NOT_WARMED = {"sdxl_unet", "sd15_unet"}

Tensor = tuple[str, int, list[int]]


def _config(name: str) -> Any:
    text = (ROOT / "model_repository" / name / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def _declared(tensors: Any) -> list[Tensor]:
    """Name, ONNX type and dims of a config's tensors; the batch, which a config leaves out, is -1."""
    return sorted((tensor.name, TYPES[tensor.data_type], [-1, *tensor.dims]) for tensor in tensors)


def _actual(values: Any) -> list[Tensor]:
    """Name, ONNX type and dims of a graph's tensors; a dynamic axis is -1."""
    return sorted(
        (
            value.name,
            value.type.tensor_type.elem_type,
            [-1 if dim.dim_param else dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in values
    )


@pytest.mark.parametrize("name", RECIPES)
def test_config_describes_the_artifact(name: str, artifact: Callable[[str], Path]) -> None:
    # An exporter may leave a fixed size undeclared behind a dynamic reshape; engines infer it, and so do we.
    graph = onnx.shape_inference.infer_shapes(onnx.load(str(artifact(name))), data_prop=True).graph
    config = _config(name)
    assert config.name == name
    assert config.max_batch_size >= 4
    assert _declared(config.input) == _actual(graph.input)
    assert _declared(config.output) == _actual(graph.output)
    # One axis name for the batch: rows stay together from every input to every output.
    batches = {value.type.tensor_type.shape.dim[0].dim_param for value in [*graph.input, *graph.output]}
    assert len(batches) == 1


@pytest.mark.parametrize("name", [name for tier in TIERS for name in GROUPS[tier]])
def test_onnxruntime_reports_the_config_s_dims(
    name: str,
    artifact: Callable[[str], Path],
    open_session: Callable[[Path], onnxruntime.InferenceSession],
) -> None:
    # Triton's C++ backend compares with these, which include dims that onnxruntime infers beyond the declared ones.
    session = open_session(artifact(name))
    config = _config(name)
    for reported, declared in ((session.get_inputs(), config.input), (session.get_outputs(), config.output)):
        dims = {item.name: [-1 if isinstance(dim, str) else dim for dim in item.shape] for item in reported}
        assert dims == {tensor.name: [-1, *tensor.dims] for tensor in declared}


@pytest.mark.parametrize("name", NETWORKS)
def test_artifact_decides_the_engine(name: str) -> None:
    config = _config(name)
    assert (config.backend, config.platform, config.default_model_filename) == ("", "", "")
    # KIND_AUTO takes a GPU where there is one.
    [group] = config.instance_group
    assert (group.count, group.kind) == (1, model_config_pb2.ModelInstanceGroup.KIND_AUTO)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "model_repository").glob("*/config.pbtxt")), ids=lambda path: path.parent.name
)
def test_no_request_pays_for_a_queue_policy(path: Path) -> None:
    """One in twelve would wait half a second (see sdxl_unet's config); the pipelines bound the queues."""
    batching = _config(path.parent.name).dynamic_batching
    assert not batching.HasField("default_queue_policy")
    assert not batching.priority_queue_policy
    # Waiting for company may not be felt.
    assert batching.max_queue_delay_microseconds <= 5000


@pytest.mark.parametrize(
    "name", ["segment", "cleanup", "smart_remove", "remove_background", "generative_fill"]
)
def test_a_pipeline_bounds_its_requests_in_one_process(name: str) -> None:
    config = _config(name)
    in_flight, at_work = (
        int(config.parameters[key].string_value) for key in ("max_in_flight", "max_at_work")
    )
    assert 1 <= at_work <= 16
    assert at_work <= in_flight <= 64
    assert config.max_batch_size == 1
    [group] = config.instance_group
    assert (group.count, group.kind) == (1, model_config_pb2.ModelInstanceGroup.KIND_CPU)


@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - NOT_WARMED))
def test_warm_up_covers_every_input(name: str) -> None:
    config = _config(name)
    [warm_up] = config.model_warmup
    inputs = {tensor.name: tensor for tensor in config.input}
    assert warm_up.inputs.keys() == inputs.keys()
    for key, value in warm_up.inputs.items():
        assert value.data_type == inputs[key].data_type
        dims = list(zip(value.dims, inputs[key].dims, strict=True))
        assert all(given > 0 and wanted in (given, -1) for given, wanted in dims)


def test_only_the_encoders_are_cached() -> None:
    cached = [name for name in NETWORKS if _config(name).response_cache.enable]
    assert cached == ["sam_encoder", "sam2_encoder"]
