"""Why no engine comes out: one sentence each."""

from pathlib import Path

import pytest
from nexus_export import cli
from nexus_export.engines import libraries
from nexus_export.engines.artifact import write_engine
from nexus_export.engines.build_errors import explain
from nexus_export.engines.libraries import Library
from nexus_export.errors import BuildError
from nexus_export.networks import NETWORKS
from onnx import TensorProto, helper

from tests.export.support.compiling import put


@pytest.fixture(scope="module")
def rtx() -> Library:
    return libraries.load("rtx")


def test_a_network_that_the_parser_does_not_take(rtx: Library, tmp_path: Path) -> None:
    """The first error is named, in one line without places in TensorRT's source."""
    shape: list[str | int | None] = ["batch", 320, 320]
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Unheard", ["image"], ["alpha"], domain="nobody")],
            "unknown",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, [*shape, 3])],
            [helper.make_tensor_value_info("alpha", TensorProto.FLOAT, shape)],
        ),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("nobody", 1)],
        ir_version=8,
    )
    put(model, {}, "fp32", "u2net", tmp_path)
    with pytest.raises(
        BuildError, match=r"does not build u2net for sm86 \(Unheard: .*\); serve its"
    ) as refused:
        write_engine(NETWORKS["u2net"], tmp_path, "sm86", rtx, lambda _: None)
    assert "\n" not in str(refused.value)
    assert ".cpp" not in str(refused.value)
    assert not list(tmp_path.rglob("model.rtx*"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            "Error Code 2: OutOfMemory (Requested size was 25769803776 bytes.)",
            "memory ran out while lama was built for sm86; free some, or ask for less with --max-batch.",
        ),
        (
            "Error Code 4: The total weights exceed the limit",
            "lama is too large for TensorRT-RTX (Error Code 4: The total weights exceed the limit); "
            "ask for less with --max-batch.",
        ),
        (
            "IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([pass.cpp:337: check_turing_op_compatibility] "
            "FP32 GEMM is not supported. In compileGraph at /_src/optimizer/x.cpp:2012)",
            "TensorRT-RTX has no FP32 matrix product for sm86, and lama is FP32; build it with --precision fp16, or "
            "serve its model.onnx there.",
        ),
    ],
)
def test_why_a_network_is_refused_is_one_sentence(rtx: Library, words: str, sentence: str) -> None:
    assert str(explain(NETWORKS["lama"], "fp32", rtx, "sm86", [words])) == sentence


def test_tensorrt_builds_for_the_gpu_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rtx: Library
) -> None:
    library = Library("tensorrt", rtx.api, "10.13.2.6", "model.plan")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        BuildError, match="this machine's GPU, which is none, not sm86; run this on a machine with"
    ):
        library.check("sm86")
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 8.6\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    library.check("sm86")
    with pytest.raises(BuildError, match="which is sm86, not sm75"):
        library.check("sm75")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--gpu", "sm87"), "there is no GPU 'sm87'; choose from sm75, sm80, sm86, sm89, sm90, sm120."),
        (("--gpu", "sm86", "--backend", "onnx"), "there is no backend 'onnx'; choose from tensorrt, rtx."),
        (
            ("--gpu", "sm90", "--backend", "rtx"),
            "TensorRT-RTX does not build for sm90; use --backend tensorrt on a machine with that GPU.",
        ),
        (
            ("--gpu", "sm86"),
            "TensorRT is not in this environment; run: pip install 'nexus-export[tensorrt]'; --backend rtx needs "
            "no GPU, and shows that networks compile",
        ),
        (
            ("u2net", "--gpu", "sm86", "--backend", "rtx", "--out", "empty"),
            "u2net is not in empty; run: nexus-export build u2net --out empty",
        ),
        (
            ("--gpu", "sm86", "--backend", "rtx", "--out", "empty"),
            "no network is in empty; run: nexus-export build --out empty",
        ),
    ],
)
def test_the_command_says_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], sentence: str
) -> None:
    monkeypatch.setattr("sys.argv", ["nexus-export", "engine", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == f"nexus-export: {sentence}"
