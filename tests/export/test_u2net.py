"""The wrapped U2-Net against the published file with rembg's preprocessing in numpy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from nexus_export.sources import U2NETP, PinnedFile
from nexus_export.u2net import IMAGE_SIZE
from numpy.typing import NDArray
from PIL import Image

PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")

# The wrapped graph works in FP32 where rembg's numpy is FP64 up to the network's input: rounding, on [0, 1].
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def session(
    artifact: Callable[[str], Path], open_session: Callable[[Path], onnxruntime.InferenceSession]
) -> onnxruntime.InferenceSession:
    return open_session(artifact("u2net"))


@pytest.fixture(scope="module")
def images(photo: Callable[[str], Image.Image]) -> NDArray[np.uint8]:
    """Photos at the network's size, UINT8 [4,320,320,3]; the last one dark, to be scaled by its maximum."""
    size = (IMAGE_SIZE, IMAGE_SIZE)
    scaled = [np.asarray(photo(name).resize(size, Image.Resampling.LANCZOS)) for name in PHOTOS]
    return np.stack([*scaled[:3], scaled[3] // 4])


@pytest.fixture(scope="module")
def expected(
    images: NDArray[np.uint8],
    published: Callable[[PinnedFile], Path],
    open_session: Callable[[Path], onnxruntime.InferenceSession],
) -> NDArray[np.float32]:
    """What rembg computes one by one (sessions/base.py and u2netp.py), FP32 [4,320,320]."""
    network = open_session(published(U2NETP))
    alphas = []
    for image in images:
        unit = image / image.max()
        planes = ((unit - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)).transpose(2, 0, 1)
        saliency = network.run(None, {"input.1": planes[None].astype(np.float32)})[0][0, 0]
        alphas.append((saliency - saliency.min()) / (saliency.max() - saliency.min()))
    return np.stack(alphas)


def test_matches_rembg_one_by_one(
    session: onnxruntime.InferenceSession, images: NDArray[np.uint8], expected: NDArray[np.float32]
) -> None:
    for image, alpha in zip(images, expected):
        [found] = session.run(None, {"image": image[None]})
        assert np.abs(found[0] - alpha).max() < TOLERANCE


def test_matches_rembg_batched(
    session: onnxruntime.InferenceSession, images: NDArray[np.uint8], expected: NDArray[np.float32]
) -> None:
    # Every image is scaled by its own maximum and stretched to its own range.
    [found] = session.run(None, {"image": images})
    assert np.abs(found - expected).max() < TOLERANCE


def test_black_image_gives_finite_alpha(session: onnxruntime.InferenceSession) -> None:
    [found] = session.run(None, {"image": np.zeros((1, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)})
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1
