"""The wrapped U2-Net and IS-Net against the published files with rembg's preprocessing in numpy.

U2-Net is the published small one. No package carries IS-Net: a random network of the same interface stands for it.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from nexus_export.downloads.packages import U2NETP, PinnedFile
from nexus_export.errors import CheckpointError
from nexus_export.families.u2net import build, exports, reference
from numpy.typing import NDArray
from onnx import numpy_helper
from PIL import Image

from tests.export.support.random_isnet import write_isnet

IMAGE_SIZE = 320
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
    """rembg's results, image by image (sessions/base.py and u2netp.py), FP32 [4,320,320]."""
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


def test_a_batch_of_published_files_runs_image_by_image(
    published: Callable[[PinnedFile], Path], images: NDArray[np.uint8], expected: NDArray[np.float32]
) -> None:
    [export] = exports(published(U2NETP), "u2net")
    found = export.reference()({"image": images})["alpha"]
    assert np.abs(found - expected).max() < TOLERANCE
    assert (export.network.name, export.weights) == ("u2net", {})


# Axes moved from attributes to inputs, of Squeeze with 13, of reductions with 18.
@pytest.mark.parametrize("opset", [11, 13, 18])
def test_isnet_matches_rembg(opset: int, photo: Callable[[str], Image.Image], tmp_path: Path) -> None:
    path = write_isnet(tmp_path / "isnet.onnx", opset=opset)
    images = np.stack([np.asarray(photo(name).resize((1024, 1024))) for name in ("coffee", "rocket")])
    images[1] //= 3
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    alphas = []
    for image in images:  # rembg's dis_general_use.py and base.py, 2.0.86
        unit = image / max(image.max(), 1e-6)
        planes = ((unit - 0.5) / 1.0).transpose(2, 0, 1)[None].astype(np.float32)
        saliency = session.run(None, {"input_image": planes})[0][:, 0]
        alphas.append(np.squeeze((saliency - saliency.min()) / (saliency.max() - saliency.min())))
    expected = np.stack(alphas)
    assert expected.std() > 0.1  # not a flat picture, which would hide errors
    [export] = exports(path, "isnet")
    wrapped = onnxruntime.InferenceSession(
        export.template.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    [found] = wrapped.run(None, {"image": images})
    assert found.shape == (2, 1024, 1024)
    # As above, with a wider spread: nothing here has learnt to saturate.
    assert np.abs(found - expected).max() < 10 * TOLERANCE
    assert np.abs(reference(path, "isnet")({"image": images})["alpha"] - expected).max() < TOLERANCE


def test_a_flat_prediction_is_no_foreground(tmp_path: Path) -> None:
    model = onnx.load(str(write_isnet(tmp_path / "isnet.onnx")))
    for tensor in model.graph.initializer[:2]:
        tensor.CopyFrom(numpy_helper.from_array(np.zeros(tensor.dims, np.float32), tensor.name))
    wrapped = build(model, "isnet").SerializeToString()
    session = onnxruntime.InferenceSession(wrapped, providers=["CPUExecutionProvider"])
    [found] = session.run(None, {"image": np.full((1, 1024, 1024, 3), 9, np.uint8)})
    assert (found == 0).all()


def test_other_files_are_refused_in_one_sentence(
    published: Callable[[PinnedFile], Path], tmp_path: Path
) -> None:
    whole = published(U2NETP).read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "page.onnx").write_text("<html>not found</html>")
    (tmp_path / "empty.onnx").write_bytes(b"")
    for name in ("cut.onnx", "page.onnx", "empty.onnx"):
        with pytest.raises(
            CheckpointError, match=f"^{name} is damaged or no ONNX file; fetch the file again.$"
        ):
            next(exports(tmp_path / name, "u2net"))
    with pytest.raises(CheckpointError, match=r"^there is no file .*; check the path\.$"):
        next(exports(tmp_path / "absent.onnx", "u2net"))
    with pytest.raises(
        CheckpointError, match=r"u2netp\.onnx is not an ONNX file of isnet \(one image of 1024 x 1024"
    ):
        next(exports(published(U2NETP), "isnet"))
    with pytest.raises(CheckpointError, match=r"is not an ONNX file of u2net \(one image of 320 x 320 in"):
        next(exports(write_isnet(tmp_path / "isnet.onnx"), "u2net"))
