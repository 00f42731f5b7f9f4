"""SAM's encoders at full size, with seeded random weights under the published names: ONNX against torch.

Of the ViTs, torch is the published code; of MobileSAM, whose code is in no package, ours.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from nexus_export.families.sam.checkpoint import exports
from nexus_export.families.sam.constants import PIXEL_MEAN, PIXEL_STD
from nexus_export.families.sam.vit import PUBLISHED
from nexus_export.inference import onnx_run
from nexus_export.onnx_graphs.writing import write_network
from numpy.typing import NDArray
from PIL import Image

from tests.export.full.figures import measured, record
from tests.export.support import published_sam

PHOTO = Path(__file__).parents[3] / "demo" / "photos" / "astronaut.jpg"

# Published checkpoints, and the letter of their ViT.
FILES = {
    "mobile_sam.pt": None,
    "sam_vit_b_01ec64.pth": "b",
    "sam_vit_l_0b3195.pth": "l",
    "sam_vit_h_4b8939.pth": "h",
}


def _image() -> NDArray[np.uint8]:
    # Square, so that it fills SAM's frame.
    return np.asarray(Image.open(PHOTO).convert("RGB").resize((1024, 1024)))[None]


def _write(letter: str | None, path: Path) -> None:
    torch.save(published_sam.random_state(None if letter is None else PUBLISHED[letter]), path)


def _export(checkpoint: Path, folder: Path) -> None:
    for export in exports(checkpoint):
        path = folder / export.network.name / "model.onnx"
        write_network(export.template, path, export.weights)


def _run(network: Path, out: Path) -> None:
    np.save(out, onnx_run(network)({"image": _image()})["embedding"])


def _torch(checkpoint: Path, letter: str | None, out: Path) -> None:
    if letter is None:
        export = next(exports(checkpoint))
        np.save(out, export.reference()({"image": _image()})["embedding"])
        return
    module = published_sam.image_encoder(PUBLISHED[letter])
    state = torch.load(checkpoint, weights_only=True, mmap=True)
    prefix = "image_encoder."
    own = {name.removeprefix(prefix): x for name, x in state.items() if name.startswith(prefix)}
    module.load_state_dict(own, assign=True)
    mean, deviation = (torch.tensor(numbers)[:, None, None] for numbers in (PIXEL_MEAN, PIXEL_STD))
    with torch.no_grad():
        np.save(out, module((torch.from_numpy(_image()).permute(0, 3, 1, 2) - mean) / deviation).numpy())


@pytest.mark.parametrize("name", FILES)
def test_sam(name: str, scratch: Path) -> None:
    checkpoint, letter = scratch / name, FILES[name]
    measured(_write, letter, checkpoint)
    exporting = measured(_export, checkpoint, scratch)
    network = scratch / "sam_encoder" / "model.onnx"
    running = measured(_run, network, scratch / "found.npy")
    reference = measured(_torch, checkpoint, letter, scratch / "expected.npy")
    found, expected = np.load(scratch / "found.npy"), np.load(scratch / "expected.npy")
    difference = float(np.abs(found - expected).max())
    record(
        f"{name}: export, and one photo through the encoder",
        checkpoint_bytes=checkpoint.stat().st_size,
        export_peak_bytes=exporting.peak_rss_bytes,
        export_seconds=exporting.seconds,
        max_abs=difference,
        run_peak_bytes=running.peak_rss_bytes,
        run_seconds=running.seconds,
        torch_peak_bytes=reference.peak_rss_bytes,
        torch_seconds=reference.seconds,
    )
    # The project's bound for this export; a random network's embedding has a deviation near 1.
    assert difference < 1e-3
    assert expected.std() > 0.5
    assert (scratch / "sam_decoder" / "model.onnx").stat().st_size == pytest.approx(16.5e6, rel=0.02)
