"""A TensorRT plan serves on the machine that its manifest describes, the ONNX file beside it on any other."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from nexus_server import engines
from nexus_server.engines import NO_GPU, Choice, Node, choose, find_node
from tritonclient.grpc.model_config_pb2 import ModelConfig

NODE = Node(("sm86",), "10.13.2")
PLAN, ONNX = b"a plan of 24 bytes it is", b"an ONNX file"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A version folder of LaMa whose plan fits NODE."""
    version = tmp_path / "lama/1"
    version.mkdir(parents=True)
    (version / "model.plan").write_bytes(PLAN)
    (version / "model.onnx").write_bytes(ONNX)
    rewrite(version)
    return version


def rewrite(folder: Path, **fields: Any) -> None:
    """Write the manifest that fits NODE, except for `fields`."""
    manifest = {
        "network": "lama",
        "gpu": "sm86",
        "library": "tensorrt",
        "library_version": "10.13.2.6",
        "onnx_sha256": {"model.onnx": hashlib.sha256(ONNX).hexdigest()},
        "profile": {"image": {"least": [1, 64, 64, 3], "usual": [2, 64, 64, 3], "most": [3, 64, 64, 3]}},
        "engine_sha256": hashlib.sha256(PLAN).hexdigest(),
        "engine_bytes": len(PLAN),
    }
    (folder / "model.plan.json").write_text(json.dumps({**manifest, **fields}))


def test_a_plan_that_fits_serves(folder: Path) -> None:
    """Also without an ONNX file, and if the version of TensorRT is unknown: then Triton decides."""
    assert choose(folder, NODE) == Choice("model.plan", "", 3)
    assert choose(folder, Node(("sm86",), "")) == Choice("model.plan", "", 3)
    (folder / "model.onnx").unlink()
    assert choose(folder, NODE) == Choice("model.plan", "", 3)


def test_a_long_check_is_announced(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    choose(folder, NODE)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(engines, "_LARGE_BYTES", 10)
    choose(folder, NODE)
    assert capsys.readouterr().out == "nexus-server: checking lama's plan\n"


@pytest.mark.parametrize(("configured", "largest"), [(8, 3), (2, 2)])
def test_a_batch_is_at_most_what_the_plan_takes(folder: Path, configured: int, largest: int) -> None:
    config = ModelConfig(name="lama", max_batch_size=configured)
    choose(folder, NODE).complete(config)
    assert (config.backend, config.default_model_filename) == ("tensorrt", "model.plan")
    assert config.max_batch_size == largest


@pytest.mark.parametrize(
    ("node", "complaint"),
    [
        (NO_GPU, "is for sm86, this machine has no GPU"),
        (Node(("sm75",), "10.13.2"), "is for sm86, this GPU is sm75"),
        (Node(("sm75", "sm86"), "10.13.2"), "is for sm86, these GPUs are sm75 and sm86"),
        (Node(("sm86",), None), "needs TensorRT, which this Triton does not have"),
        (Node(("sm86",), "10.9.0"), "was built with TensorRT 10.13.2.6, this Triton has 10.9.0"),
    ],
)
def test_a_plan_for_another_machine(folder: Path, node: Node, complaint: str) -> None:
    assert choose(folder, node) == Choice("model.onnx", complaint)
    (folder / "model.onnx").unlink()
    assert choose(folder, node) == Choice(None, complaint)


def test_a_damaged_plan(folder: Path) -> None:
    (folder / "model.plan").write_bytes(PLAN[:7])
    assert choose(folder, NODE).complaint == "has 7 bytes where its manifest says 24"
    (folder / "model.plan").write_bytes(PLAN[::-1])
    assert choose(folder, NODE) == Choice("model.onnx", "is not the file that its manifest describes")


def test_a_plan_of_another_export(folder: Path) -> None:
    """The network was built again since then; large networks keep their weights in a file of their own."""
    (folder / "model.onnx").write_bytes(b"newer")
    assert choose(folder, NODE) == Choice("model.onnx", "was built from a different model.onnx")
    digests = {
        "model.onnx": hashlib.sha256(b"newer").hexdigest(),
        "model.onnx.data": hashlib.sha256(b"a").hexdigest(),
    }
    rewrite(folder, onnx_sha256=digests)
    (folder / "model.onnx.data").write_bytes(b"a")
    assert choose(folder, NODE).file == "model.plan"
    (folder / "model.onnx.data").write_bytes(b"b")
    assert choose(folder, NODE) == Choice("model.onnx", "was built from a different model.onnx.data")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", '"gpu"', '{"gpu": "sm86"', "\0", f'{{"gpu": {10**5 * "["}', '{"a": ' + 5000 * "9"],
)
def test_a_manifest_that_cannot_be_read(folder: Path, text: str) -> None:
    """Not JSON, not an object, nested deeper than Python parses."""
    (folder / "model.plan.json").write_text(text)
    assert choose(folder, NODE) == Choice("model.onnx", "has a manifest that cannot be read")


def test_a_plan_without_a_manifest(folder: Path) -> None:
    (folder / "model.plan.json").unlink()
    assert choose(folder, NODE) == Choice("model.onnx", "has no manifest")
    (folder / "model.plan.json").symlink_to("/dev/zero")
    assert choose(folder, NODE) == Choice("model.onnx", "has a manifest that is not a file")
    (folder / "model.plan.json").unlink()
    (folder / "model.plan.json").mkdir()
    assert choose(folder, NODE) == Choice("model.onnx", "has a manifest that is not a file")


DIGEST = hashlib.sha256(ONNX).hexdigest()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("network", None),
        ("gpu", ["sm86"]),
        ("library", 1),
        ("library_version", 10),
        ("engine_sha256", []),
        ("engine_bytes", "24"),
        ("engine_bytes", True),
        ("onnx_sha256", []),
        ("onnx_sha256", {"model.onnx": 1}),
        ("onnx_sha256", {"model.onnx": "abc"}),
        ("onnx_sha256", {"..": DIGEST}),
        ("onnx_sha256", {"": DIGEST}),
        ("onnx_sha256", {"/dev/zero": DIGEST}),
        ("onnx_sha256", {"a\0b": DIGEST}),
        ("profile", []),
        ("profile", {}),
        ("profile", {"image": []}),
        ("profile", {"image": {"least": [1]}}),
        *[("profile", {"image": {"most": most}}) for most in ([], 4, [0], [-5], ["4"], [4.5], [[4]])],
    ],
)
def test_a_malformed_field_excludes_the_plan(folder: Path, field: str, value: object) -> None:
    """The server starts nevertheless."""
    rewrite(folder, **{field: value})
    assert choose(folder, NODE) == Choice(
        "model.onnx", f"has a manifest whose {field} is missing or malformed"
    )


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"library": "rtx"}, "was built with rtx, which Triton does not serve"),
        ({"network": "u2net"}, "belongs to the network u2net"),
        ({"onnx_sha256": {}}, "has a manifest that does not name the model.onnx it was built from"),
    ],
)
def test_a_plan_of_something_else(folder: Path, fields: dict[str, Any], complaint: str) -> None:
    rewrite(folder, **fields)
    assert choose(folder, NODE) == Choice("model.onnx", complaint)


def test_a_plan_that_is_not_a_file(folder: Path) -> None:
    (folder / "model.plan").unlink()
    (folder / "model.plan").mkdir()
    assert choose(folder, NODE) == Choice("model.onnx", "is not a file")


def test_a_folder_without_a_plan(folder: Path) -> None:
    (folder / "model.plan").unlink()
    assert choose(folder, NODE) == Choice("model.onnx", "")
    (folder / "model.onnx").unlink()
    assert choose(folder, NODE) == Choice(None, "")


@pytest.mark.parametrize(
    ("script", "gpus"),
    [
        ("echo 8.6", ("sm86",)),
        ("printf '12.0\\n8.9\\n8.9\\n'", ("sm120", "sm89")),
    ],
)
def test_the_gpus_come_from_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, gpus: tuple[str, ...]
) -> None:
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert find_node() == Node(gpus, None)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("echo NVIDIA-SMI has failed.; exit 9", "nvidia-smi: NVIDIA-SMI has failed."),
        ("echo '[N/A]'", "nvidia-smi: [N/A]"),
        ("exit 6", "nvidia-smi: no output, exit status 6"),
        ("exec sleep 60", "nvidia-smi does not answer within 0.2 s"),
    ],
)
def test_a_broken_driver_is_distinguished_from_no_gpu(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, error: str
) -> None:
    monkeypatch.setattr(engines, "_GPUS_TIMEOUT_S", 0.2 if "sleep" in script else 10)
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    node = find_node()
    assert node == Node((), None, error)
    assert choose(folder, node).complaint == f"is for sm86, {error}"


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [("", ()), ("0", ("sm86",)), ("1, 2", ("sm75", "sm90")), ("0,-1,1", ("sm86",)), ("7", ())],
)
def test_a_gpu_that_cuda_may_not_use_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str, gpus: tuple[str, ...]
) -> None:
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\nprintf '8.6\\n9.0\\n7.5\\n'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert find_node().gpus == gpus


def test_a_machine_without_a_driver_has_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_node().gpus == ()


def test_the_version_of_tensorrt_is_that_of_the_vendors_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_VENDOR_BACKEND", tmp_path / "backends/tensorrt")
    monkeypatch.setattr(engines, "_LIBRARIES", tmp_path)
    assert find_node().tensorrt is None
    (tmp_path / "backends/tensorrt").mkdir(parents=True)
    assert find_node().tensorrt == ""
    (tmp_path / "x86_64-linux-gnu").mkdir()
    for name in (
        "libnvinfer.so.10",
        "libnvinfer.so.10.9.0",
        "libnvinfer.so.10.13.2",
        "libnvinfer_plugin.so.10.13.2",
    ):
        (tmp_path / "x86_64-linux-gnu" / name).touch()
    assert find_node().tensorrt == "10.13.2"
