"""The command `verify`: figures and sheets of what is built, and what it says of a file that is no good."""

import json
from pathlib import Path

import numpy as np
import onnx
from nexus_export.cli import app
from nexus_export.default_profile import RECIPES, build
from nexus_export.networks import artifact
from onnx import numpy_helper
from PIL import Image
from typer.testing import CliRunner, Result

CACHE = Path(__file__).parents[3] / "build" / "cache"
QUICK = ("sd15_text_encoder", "sd15_vae_decoder")


def _verify(repository: Path, *more: str) -> Result:
    report = str(repository / "report")
    arguments = ["verify", *more, "--out", str(repository), "--report", report, "--cache", str(CACHE)]
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "100"})


def test_figures_are_printed_and_kept(tmp_path: Path) -> None:
    for name in QUICK:
        build(RECIPES[name], tmp_path, CACHE, lambda _: None)
    done = _verify(tmp_path)
    assert done.exit_code == 0, done.exception
    lines = done.stdout.splitlines()
    assert max(map(len, lines[:-1])) <= 100
    assert [line.split()[:2] for line in lines[1:3]] == [[name, "fp32"] for name in QUICK]
    assert all(line.split()[-1] == "ok" for line in lines[1:3])
    report = json.loads((tmp_path / "report" / "quality.json").read_text())
    assert [figures["network"] for figures in report] == list(QUICK)
    text, picture = report
    # FP32 against FP32 in another library: rounding.
    assert text["max_abs"] < 1e-5
    assert picture["max_abs"] <= 1
    for figures in report:
        assert figures["psnr_db"] > 80
        assert figures["size_ratio"] == figures["cpu_latency_ratio"] == 1
        kept = json.loads((artifact(figures["network"], tmp_path).with_name("quality.json")).read_text())
        assert kept.items() >= figures.items()
        with Image.open(tmp_path / "report" / f"{figures['network']}_fp32.jpg") as sheet:
            pixels = np.asarray(sheet)
        # Three rows of four pictures under two lines of titles.
        assert pixels.shape == (2 * 22 + 3 * 246, 4 * 326 + 6, 3)
        # FP32's and the artifact's columns look alike but for JPEG's loss on noise (4.4 levels measured; other rows
        # differ by 40), and the difference is black but for its frame.
        body = pixels[44:].astype(int)
        assert np.abs(body[:, 332:652] - body[:, 658:978]).mean() < 8
        assert np.median(body[:240, 1100:1180]) < 3


def test_a_file_that_does_not_do_fails(tmp_path: Path) -> None:
    name = QUICK[0]
    build(RECIPES[name], tmp_path, CACHE, lambda _: None)
    path = artifact(name, tmp_path)
    model = onnx.load(str(path))
    for tensor in model.graph.initializer:
        weight = numpy_helper.to_array(tensor)
        if weight.ndim == 2 and weight.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(weight * np.float32(1.1), tensor.name))
    onnx.save(model, str(path))
    done = _verify(tmp_path, name)
    assert "FAILED" in done.stdout
    assert str(done.exception).startswith(
        f"{name} at fp32 is not good enough (max abs relative to its output "
    )


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    name = QUICK[0]
    build(RECIPES[name], tmp_path, CACHE, lambda _: None)
    path = artifact(name, tmp_path)
    path.write_bytes(path.read_bytes()[:-1000])
    message = str(_verify(tmp_path, name).exception)
    assert message.startswith(f"{name} is damaged")
    assert f"nexus-export build {name}" in message


def test_what_is_not_built_is_said(tmp_path: Path) -> None:
    assert str(_verify(tmp_path, "lama").exception).startswith("lama is not built")
    assert str(_verify(tmp_path).exception).startswith("no network is in ")
