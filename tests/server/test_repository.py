"""Which models are served, what the log reports of the others, and the repository that Triton gets."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from nexus_server import repository
from nexus_server.engines import Choice, Node
from nexus_server.errors import ServerError
from tritonclient.grpc.model_config_pb2 import ModelConfig


def network(folder: Path, name: str, *artifacts: str) -> None:
    (folder / name / "1").mkdir(parents=True)
    (folder / name / "config.pbtxt").write_text(f'name: "{name}"\nmax_batch_size: 4\n')
    for artifact in artifacts:
        (folder / name / "1" / artifact).touch()


def pipeline(folder: Path, name: str, networks: str, fallback: str = "") -> None:
    (folder / name / "1").mkdir(parents=True)
    text = f'name: "{name}"\nbackend: "python"\n'
    for key, value in (("networks", networks), ("fallback_networks", fallback)):
        text += f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n' if value else ""
    (folder / name / "config.pbtxt").write_text(text)


def test_networks_with_an_artifact_and_pipelines_with_their_networks_are_ready(tmp_path: Path) -> None:
    network(tmp_path, "encoder", "model.onnx")
    network(tmp_path, "lama")
    pipeline(tmp_path, "cleanup", "lama")
    pipeline(tmp_path, "segment", "encoder")
    pipeline(tmp_path, "smart_remove", "encoder lama decoder")
    found = repository.scan(tmp_path)
    assert sorted(found.ready) == ["encoder", "segment"]
    assert found.missing == {
        "lama": f"not built; run: nexus-export build lama --out {tmp_path} "
        f"(in a checkout: make models MODELS={tmp_path})",
        "cleanup": "needs lama",
        "smart_remove": "needs lama, decoder",
    }


def test_a_network_may_be_a_model_in_python(tmp_path: Path) -> None:
    """Whatever its name: it is ready before the pipelines are resolved."""
    pipeline(tmp_path, "cleanup", "painter")
    pipeline(tmp_path, "painter", "")
    assert sorted(repository.scan(tmp_path).ready) == ["cleanup", "painter"]


def test_a_pipeline_may_do_without_its_fallback(tmp_path: Path) -> None:
    """A fallback is complete or removed: a tier that lacks one network cannot take over."""
    for name in ("sdxl_unet", "sd15_vae_encoder"):
        network(tmp_path, name, "model.onnx")
    network(tmp_path, "sd15_unet")
    pipeline(tmp_path, "generative_fill", "sdxl_unet", "sd15_vae_encoder sd15_unet sd15_vae_decoder")
    found = repository.scan(tmp_path)
    assert sorted(found.ready) == ["generative_fill", "sd15_vae_encoder", "sdxl_unet"]
    assert list(found.ready["generative_fill"].parameters) == ["networks"]  # what the pipeline itself sees
    assert found.degraded == {
        "generative_fill": "without sd15_unet, sd15_vae_decoder, which would serve when its other networks cannot"
    }
    for name in ("sd15_unet", "sd15_vae_decoder"):
        (tmp_path / name / "1").mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "1/model.onnx").touch()
        (tmp_path / name / "config.pbtxt").write_text("max_batch_size: 4")
    found = repository.scan(tmp_path)
    assert found.degraded == {}
    assert sorted(found.ready["generative_fill"].parameters) == ["fallback_networks", "networks"]


def test_the_onnx_file_serves_where_there_is_no_plan(tmp_path: Path) -> None:
    network(tmp_path, "lama", "model.onnx")
    config = repository.scan(tmp_path).ready["lama"]
    assert (config.backend, config.default_model_filename) == ("onnxruntime", "model.onnx")
    assert config.max_batch_size == 4


def test_a_plan_that_does_not_fit_is_reported(tmp_path: Path) -> None:
    """With the reason and what serves instead; a network without an ONNX file is missing. See test_engines.py."""
    network(tmp_path, "lama", "model.onnx", "model.plan")
    network(tmp_path, "u2net", "model.plan")
    found = repository.scan(tmp_path)
    assert found.plans == {"lama": "its TensorRT plan has no manifest; serving model.onnx"}
    assert found.ready["lama"].backend == "onnxruntime"
    assert found.missing == {"u2net": "its TensorRT plan has no manifest; build it from its checkpoint again"}
    found = repository.scan(tmp_path, Node(("sm86",), "10.13.2"))
    assert found.missing == {
        "u2net": "its TensorRT plan has no manifest; "
        f"put its model.onnx beside it and run: nexus-export engine u2net --gpu sm86 --out {tmp_path}"
    }


def test_a_pipeline_may_do_without_what_a_request_may_ask_for(tmp_path: Path) -> None:
    """The log does not advise to build it: that needs a published checkpoint."""
    for name in ("encoder", "encoder_2"):
        network(tmp_path, name, "model.onnx")
    network(tmp_path, "decoder_2")
    for name in ("segment", "smart_remove"):
        pipeline(tmp_path, name, "encoder")
        with (tmp_path / name / "config.pbtxt").open("a") as config:
            config.write(
                'parameters { key: "optional_networks" value { string_value: "encoder_2 decoder_2" } }'
            )
    found = repository.scan(tmp_path)
    assert sorted(found.ready) == ["encoder", "encoder_2", "segment", "smart_remove"]
    assert found.missing == {}
    assert found.degraded == dict.fromkeys(
        ("segment", "smart_remove"), "without decoder_2, which a request may ask for"
    )
    assert list(found.ready["segment"].parameters) == ["networks"]  # what the pipeline itself sees
    (tmp_path / "decoder_2/1/model.onnx").touch()
    found = repository.scan(tmp_path)
    assert found.degraded == {}
    assert sorted(found.ready["segment"].parameters) == ["networks", "optional_networks"]


def test_what_did_not_load_is_dropped_with_what_needs_it(tmp_path: Path) -> None:
    """Pipelines that can do without it stay."""
    for name in ("encoder", "encoder_2", "lama"):
        network(tmp_path, name, "model.onnx")
    pipeline(tmp_path, "segment", "encoder")
    pipeline(tmp_path, "cleanup", "lama", "encoder_2")
    pipeline(tmp_path, "painter", "")
    found = repository.scan(tmp_path)
    left = repository.drop_models(found, {"encoder", "encoder_2"})
    assert sorted(left.ready) == ["cleanup", "lama", "painter"]
    assert list(left.ready["cleanup"].parameters) == ["networks"]
    unloaded = "it did not load; the server's messages above say why"
    assert left.missing == {
        "encoder": unloaded,
        "encoder_2": unloaded,
        "segment": "needs encoder, which did not load",
    }
    assert list(left.messages()) == [
        f"not serving encoder: {unloaded}",
        f"not serving encoder_2: {unloaded}",
        "not serving segment: needs encoder, which did not load",
        "serving cleanup without encoder_2, which would serve when its other networks cannot",
    ]


def test_the_onnx_file_serves_for_a_plan_that_does_not_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its own batch size; if there is none, or it does not load either, the network is dropped."""
    for name in ("sam_encoder", "lama"):
        network(tmp_path, name, "model.onnx", "model.plan")
    pipeline(tmp_path, "segment", "sam_encoder")
    (tmp_path / "lama/1/model.onnx").unlink()
    monkeypatch.setattr("nexus_server.engines.choose", lambda *_: Choice("model.plan", "", 2))
    found = repository.scan(tmp_path, Node(("sm86",), ""))
    assert found.plans == dict.fromkeys(("sam_encoder", "lama"), "TensorRT plan for sm86, at most 2 rows")
    left = repository.drop_models(found, {"sam_encoder", "lama"})
    assert sorted(left.ready) == ["sam_encoder", "segment"]
    encoder = left.ready["sam_encoder"]
    assert (encoder.backend, encoder.default_model_filename) == ("onnxruntime", "model.onnx")
    assert (found.ready["sam_encoder"].max_batch_size, encoder.max_batch_size) == (2, 4)
    assert list(left.messages()) == [
        "not serving lama: it did not load; the server's messages above say why",
        "sam_encoder: its TensorRT plan does not load here; serving model.onnx",
    ]
    left = repository.drop_models(left, {"sam_encoder"})
    assert left.ready == {}
    assert left.missing["segment"] == "needs sam_encoder, which did not load"


def test_a_folder_without_models(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ServerError, match=r"holds no models; give the model repository with --models\.$"):
            repository.scan(folder)


def test_nothing_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default folder need not be named."""
    monkeypatch.chdir(tmp_path)
    network(Path("model_repository"), "lama")
    pipeline(Path("model_repository"), "cleanup", "lama")
    with pytest.raises(ServerError) as caught:
        repository.scan(Path("model_repository"))
    assert str(caught.value) == (
        "no network is built, so there is nothing to serve; run: nexus-export build (in a checkout: make models)"
    )


def test_a_pipeline_without_networks_keeps_its_parameters(tmp_path: Path) -> None:
    """Triton must not get an empty parameter that the config does not have."""
    (tmp_path / "resize").mkdir()
    (tmp_path / "resize/config.pbtxt").write_text('name: "resize"\nbackend: "python"\n')
    assert not repository.scan(tmp_path).ready["resize"].parameters


@pytest.mark.parametrize("content", ["max_batch_size: many", "no_such_field: 1", "input [", "\0"])
def test_a_malformed_config_is_named(tmp_path: Path, content: str) -> None:
    network(tmp_path, "encoder", "model.onnx")
    network(tmp_path, "lama", "model.onnx")
    (tmp_path / "lama/config.pbtxt").write_text(content)
    with pytest.raises(
        ServerError, match=r"lama/config\.pbtxt is not a model configuration .*; fix or remove it\.$"
    ):
        repository.scan(tmp_path)


def test_folders_without_a_config_are_passed_over(tmp_path: Path) -> None:
    network(tmp_path, "lama", "model.onnx")
    (tmp_path / "notes").mkdir()
    (tmp_path / "README.md").touch()
    assert sorted(repository.scan(tmp_path).ready) == ["lama"]


def test_triton_gets_completed_configs_and_links_to_the_versions(tmp_path: Path) -> None:
    source, into = tmp_path / "source", tmp_path / "runtime" / "models"
    network(source, "lama", "model.onnx")
    network(source, "absent")
    found = repository.scan(source)
    assert repository.assemble(source, found.ready, into) == into
    assert [path.name for path in into.iterdir()] == ["lama"]
    assert (into / "lama/1").resolve() == (source / "lama/1").resolve()
    assert (into / "lama/1/model.onnx").exists()
    written = text_format.Parse((into / "lama/config.pbtxt").read_text(), ModelConfig())
    assert written == found.ready["lama"]
    assert written.backend == "onnxruntime"


def test_a_relative_repository_is_linked_absolutely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network(tmp_path / "source", "lama", "model.onnx")
    monkeypatch.chdir(tmp_path)
    found = repository.scan(Path("source"))
    repository.assemble(Path("source"), found.ready, tmp_path / "into")
    assert (tmp_path / "into/lama/1").readlink().is_absolute()
