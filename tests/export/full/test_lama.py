"""big-lama at full size, in both published forms with seeded random weights: ONNX against the published forward."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from nexus_export.exported import Array
from nexus_export.families.lama.checkpoint import exports
from nexus_export.onnx_graphs.template import fill
from onnx import helper

from tests.export.full.figures import measured, record
from tests.export.support import published_lama

SIZE = (264, 392)  # height and width differ, and the width is no power of two


def _export(path: Path, out: Path) -> None:
    [export] = exports(path)
    model = fill(export.template, export.weights)
    (rounding,) = (node for node in model.graph.node if node.op_type == "Round")
    model.graph.output.append(helper.make_tensor_value_info(rounding.input[0], onnx.TensorProto.FLOAT, None))
    onnx.save(model, str(out))


def _row() -> dict[str, Array]:
    height, width = SIZE
    image = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    mask = np.zeros((1, height, width, 1), np.uint8)
    mask[:, height // 4 : height // 2, width // 3 : width // 2] = 255
    return {"image": image, "mask": mask}


def _run(path: Path, out: Path) -> None:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    filled, scaled = session.run(None, _row())
    np.savez(out, filled=filled, scaled=scaled)


def _expected(checkpoint: Path) -> tuple[Array, Array]:
    """The picture that the published forward paints, FP32 [1, 3, H, W], and our torch network's output."""
    row = _row()
    hole = torch.from_numpy((row["mask"] > 0).astype(np.float32)).permute(0, 3, 1, 2)
    pixels = torch.from_numpy(row["image"]).permute(0, 3, 1, 2) / 255.0
    with torch.no_grad():
        painted = published_lama.forward(
            published_lama.random_state(seed=0), torch.cat([pixels * (1 - hole), hole], dim=1)
        )
    [export] = exports(checkpoint)
    return painted.numpy(), export.reference()(row)["filled"]


@pytest.mark.parametrize(
    ("form", "name", "write"),
    [
        ("Lightning", "best.ckpt", published_lama.write_lightning),
        ("TorchScript", "big-lama.pt", published_lama.write_torchscript),
    ],
)
def test_big_lama(
    form: str, name: str, write: Callable[[published_lama.State, Path], None], scratch: Path
) -> None:
    checkpoint, network, result = scratch / name, scratch / "model.onnx", scratch / "result.npz"
    write(published_lama.random_state(seed=0), checkpoint)
    exporting = measured(_export, checkpoint, network)
    running = measured(_run, network, result)
    found, (painted, filled) = np.load(result), _expected(checkpoint)
    before_rounding = float(np.abs(found["scaled"] / 255.0 - painted).max())
    levels = int(np.abs(found["filled"].astype(int) - filled).max())
    record(
        f"big-lama, {form}: export, and one fill of {SIZE[0]} x {SIZE[1]}",
        export_peak_bytes=exporting.peak_rss_bytes,
        export_seconds=exporting.seconds,
        file_bytes=network.stat().st_size,
        max_abs=before_rounding,
        max_levels=levels,
        run_peak_bytes=running.peak_rss_bytes,
        run_seconds=running.seconds,
    )
    # The project's bound for every export.
    assert before_rounding < 1e-3
    # A sum's last digit can turn a rounding.
    assert levels <= 1
    assert painted.std() > 0.05  # a saturated picture would hide errors
    assert np.array_equal(
        found["filled"][_row()["mask"][..., 0] == 0], _row()["image"][_row()["mask"][..., 0] == 0]
    )
