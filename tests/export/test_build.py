"""Builds at lower precisions: a network that passes its gate enters the repository, another leaves the old one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nexus_export import build as building
from nexus_export.artifacts import PRECISION_KEY, digests, read_metadata, read_quality
from nexus_export.cli import app
from nexus_export.default_profile import RECIPES, State, build, state
from nexus_export.errors import QualityError
from nexus_export.networks import FIXED_DIMS_KEY, Precision, artifact
from nexus_export.onnx_graphs import writing
from typer.testing import CliRunner

ROOT = Path(__file__).parents[2]
CACHE = ROOT / "build" / "cache"
PHOTOS = ROOT / "demo" / "photos"
QUICK = "sd15_text_encoder"


def _build(name: str, repository: Path, precision: Precision = "fp32") -> Path:
    build(RECIPES[name], repository, CACHE, lambda _: None, precision)
    return artifact(name, repository)


@pytest.mark.parametrize("name", [QUICK, "sd15_vae_decoder"])
def test_fp16_passes_its_gate_and_says_so(name: str, tmp_path: Path) -> None:
    path = _build(name, tmp_path, "fp16")
    metadata = read_metadata(path)
    assert metadata[PRECISION_KEY] == "fp16"
    assert metadata["source"] == "random, untrained"
    if name == QUICK:
        assert json.loads(metadata[FIXED_DIMS_KEY]) == {"context_width": 32}
    quality = read_quality(path)
    assert quality is not None
    assert quality["gate"]["passed"]
    assert quality["gate"]["value"] >= quality["gate"]["bound"] == 40
    assert quality["reference"] == "torch"
    # Half the weights' bytes, and the graph's own.
    assert 0.5 <= quality["size_ratio"] <= 0.56
    # Weights are FP16, inputs and outputs unchanged.
    graph = onnx.load(str(path)).graph
    kinds = [tensor.data_type for tensor in graph.initializer if np.prod(tensor.dims) > 1000]
    assert kinds
    assert set(kinds) == {onnx.TensorProto.FLOAT16}


def test_figures_are_of_the_weights_too(tmp_path: Path) -> None:
    path, data = tmp_path / "model.onnx", tmp_path / "model.onnx.data"
    path.write_bytes(b"graph")
    data.write_bytes(b"weights")
    path.with_name("quality.json").write_text(json.dumps({"rows": 3, "onnx_sha256": digests(path)}))
    quality = read_quality(path)
    assert quality is not None
    assert quality["rows"] == 3
    data.write_bytes(b"others.")
    assert read_quality(path) is None
    data.unlink()
    assert read_quality(path) is None


def test_another_precision_is_not_up_to_date(tmp_path: Path) -> None:
    recipe = RECIPES[QUICK]
    _build(QUICK, tmp_path)
    assert state(recipe, tmp_path, "fp32") is State.UP_TO_DATE
    assert state(recipe, tmp_path, "fp16") is State.STALE
    path = _build(QUICK, tmp_path, "fp16")
    assert state(recipe, tmp_path) is State.UP_TO_DATE
    assert state(recipe, tmp_path, "fp32") is State.STALE
    assert path.with_name("quality.json").is_file()
    # FP32 of the default profile is measured by no build: figures of the old file would mislead.
    _build(QUICK, tmp_path)
    assert not path.with_name("quality.json").exists()


def test_a_precision_that_is_not_offered_gives_the_next(tmp_path: Path) -> None:
    arguments = ["build", "sd15_vae_encoder", "--precision", "int8", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, [*arguments, "--cache", str(CACHE)])
    assert done.exit_code == 0, done.exception
    assert "sd15_vae_encoder: built at fp16 (int8 is not offered) in " in done.stdout
    assert (
        CliRunner()
        .invoke(app, [*arguments, "--cache", str(CACHE)])
        .stdout.startswith("sd15_vae_encoder: up to date\n")
    )


@pytest.mark.parametrize(
    ("target", "result"),
    [("cpu", "at fp16 (int8 is not offered on a CPU, --for gpu builds it) in "), ("gpu", "at int8 in ")],
)
def test_int8_that_is_no_quicker_on_a_cpu_is_for_a_gpu(target: str, result: str, tmp_path: Path) -> None:
    photos, repository = tmp_path / "photos", tmp_path / "repository"
    photos.mkdir()
    for photo in sorted(PHOTOS.glob("*.jpg"))[:2]:  # the fewest: one to calibrate on and one to test on
        (photos / photo.name).symlink_to(photo)
    arguments = ["build", "sd15_unet", "--precision", "int8", "--for", target, "--photos", str(photos)]
    done = CliRunner().invoke(app, [*arguments, "--out", str(repository), "--cache", str(CACHE)])
    assert done.exit_code == 0, done.exception
    assert f"sd15_unet: built {result}" in done.stdout
    graph = onnx.load(str(artifact("sd15_unet", repository))).graph
    kinds = {tensor.data_type for tensor in graph.initializer}
    assert (onnx.TensorProto.INT8 in kinds) == (target == "gpu")


def test_unknown_processor() -> None:
    done = CliRunner().invoke(app, ["build", "--for", "tpu"])
    assert str(done.exception) == "there is no processor 'tpu'; choose from cpu, gpu."


def _spoiled(change: Any) -> Any:
    """`write_network` with the FP16 weights changed."""
    write = writing.write_network

    def spoil(template: onnx.ModelProto, path: Path, weights: Any, metadata: Any = None) -> None:
        if metadata:  # not the FP32 form, which is there for its size and speed
            weights = {name: change(weights[name]) for name in weights}
        write(template, path, weights, metadata)

    return spoil


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weight: np.roll(weight, 1), r"PSNR in dB [\d.-]+, at least 40 is wanted"),
        (lambda weight: weight * np.nan, "its output context is not finite"),
        (lambda weight: weight * 0, "its output context is flat"),
    ],
)
def test_what_is_not_good_enough_leaves_the_old_file(
    change: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _build(QUICK, tmp_path)
    before = path.read_bytes()
    monkeypatch.setattr(building, "write_network", _spoiled(change))
    with pytest.raises(
        QualityError, match=f"^{QUICK} at fp16 is not good enough \\({message}\\); what was there"
    ):
        _build(QUICK, tmp_path, "fp16")
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    assert [file.name for file in tmp_path.iterdir()] == [QUICK]


def test_fp32_needs_no_photos_and_fp16_says_that_it_does(tmp_path: Path) -> None:
    arguments = [
        "build",
        QUICK,
        "--photos",
        str(tmp_path / "none"),
        "--out",
        str(tmp_path),
        "--cache",
        str(CACHE),
    ]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    done = CliRunner().invoke(app, [*arguments, "--precision", "fp16"])
    assert "name a folder with two or more, JPEG, PNG or WebP, with --photos." in str(done.exception)
    done = CliRunner().invoke(app, [*arguments, "--precision", "bf16"])
    assert str(done.exception) == "there is no precision 'bf16'; choose from fp32, fp16, int8."


def test_fp32_is_the_same_to_the_byte(tmp_path: Path) -> None:
    first = _build("u2net", tmp_path / "a").read_bytes()
    assert _build("u2net", tmp_path / "b").read_bytes() == first
