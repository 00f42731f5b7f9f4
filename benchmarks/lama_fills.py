"""The fills that `benchmarks.lama_quality` compares: OpenCV's, the pyramid's and the committed network's."""

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from nexus_export.families.lama.generator import OUT_CHANNELS, Generator
from nexus_export.families.lama.network import COMPACT_CONFIG
from nexus_export.families.lama.pyramid import pyramid_fill
from nexus_export.onnx_graphs.template import fill
from nexus_export.paths import LAMA_TEMPLATE, LAMA_WEIGHTS
from numpy.typing import NDArray
from safetensors.numpy import load_file

Picture = NDArray[np.uint8]
# Image [H, W, 3] and mask [H, W] (1 in the hole) to the filled image [H, W, 3].
Fill = Callable[[Picture, Picture], Picture]

OPENCV_RADIUS_PIXELS = 3


def compact_network(grain_factor: float = 1.0) -> Fill:
    """The committed weights in the committed template, in onnxruntime, with their grain scaled by a factor."""
    weights = load_file(LAMA_WEIGHTS)
    last = f"generator.model.{len(Generator(COMPACT_CONFIG).model) - 1}"
    for name in (f"{last}.weight", f"{last}.bias"):
        weights[name][OUT_CHANNELS:] *= grain_factor
    model = fill(onnx.load(str(LAMA_TEMPLATE)), weights)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def run(image: Picture, mask: Picture) -> Picture:
        (filled,) = session.run(["filled"], {"image": image[None], "mask": mask[None, :, :, None]})
        return np.asarray(filled[0], np.uint8)

    return run


def pyramid(image: Picture, mask: Picture) -> Picture:
    """The fill that the network corrects."""
    filled = pyramid_fill(to_tensor(image), torch.from_numpy(mask)[None, None].float())
    return np.asarray((filled[0].permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy())


def to_tensor(picture: Picture) -> torch.Tensor:
    """UINT8 [H, W, 3] to FP32 [1, 3, H, W] in 0..1."""
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255


def opencv(image: Picture, mask: Picture, method: int) -> Picture:
    """OpenCV's inpainting."""
    return cv2.inpaint(image, mask, OPENCV_RADIUS_PIXELS, method).astype(np.uint8)


FILLS: dict[str, Fill] = {
    "Telea": partial(opencv, method=cv2.INPAINT_TELEA),
    "Navier-Stokes": partial(opencv, method=cv2.INPAINT_NS),
    "pyramid": pyramid,
}
