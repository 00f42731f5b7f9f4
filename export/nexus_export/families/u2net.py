"""U2-Net and IS-Net as networks: uint8 pixels in, alpha out, with rembg's arithmetic in the graph.

The source is a published ONNX file of batch 1: U2-Net (Qin et al. 2020, arXiv:2005.09007), large or small, or IS-Net
(Qin et al. 2022, arXiv:2203.03041). rembg's numpy code around it (rembg/sessions/base.py `normalize`, u2net.py and
dis_general_use.py `predict`) becomes nodes, per image of the batch: divide by the image's largest value,
normalise, run, stretch the first output from 0 to 1. Scaling the photo to the network's size and the alpha back
(Lanczos, both) stays with the caller.
"""

import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper

from nexus_export.downloads.checkpoints import PublishedCheckpoint, single_file
from nexus_export.downloads.packages import U2NETP
from nexus_export.errors import CheckpointError
from nexus_export.exported import Array, ExportedNetwork, InferenceFn
from nexus_export.families.group import Group
from nexus_export.families.imagenet import PIXEL_MEAN, PIXEL_STD
from nexus_export.families.recipe import Parts, Recipe
from nexus_export.networks import NETWORKS, Network
from nexus_export.onnx_graphs import wrapping


class Normalisation(NamedTuple):
    """RGB in [0, 1] minus `mean`, divided by `std`."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


_REMBG = "https://github.com/danielgatis/rembg/releases/download/v0.0.0"

NORMALISATIONS: Mapping[str, Normalisation] = {
    "u2net": Normalisation(PIXEL_MEAN, PIXEL_STD),
    "isnet": Normalisation((0.5, 0.5, 0.5), (1.0, 1.0, 1.0)),
}
# A black image, or a flat prediction, divides by this; rembg has it for the first.
_TINY = 1e-6
# The opset from which an operator takes its axes as an input.
_AXES_ARE_INPUT = {"Squeeze": 13, "ReduceMax": 18, "ReduceMin": 18}


def exports(path: Path, name: str) -> Iterator[ExportedNetwork]:
    """The network "u2net" or "isnet" out of a published ONNX file.

    Raises CheckpointError if the file is missing, damaged, or another network's.
    """
    network = NETWORKS[name]
    yield ExportedNetwork(network, build(_read(path, network), name), {}, partial(reference, path, name))


def build(published: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Wrap a published file: input FP32 [1,3,S,S], first output FP32 [1,1,S,S] in [0, 1].

    The network that comes back, "u2net" with S = 320 or "isnet" with S = 1024:

    - input `image`, UINT8 [B,S,S,3]: RGB.
    - output `alpha`, FP32 [B,S,S] in [0, 1]: 1 is foreground. The least and the largest value of
      every image are 0 and 1, unless its prediction is flat: then all are 0 (rembg divides by zero there).

    The side outputs, which only training needs, are dropped.
    """
    source, result = published.graph.input[0].name, published.graph.output[0].name
    opset = next(entry.version for entry in published.opset_import if not entry.domain)
    mean, std = NORMALISATIONS[name]
    constants = {
        "pixel_mean": np.array(mean, np.float32).reshape(1, 3, 1, 1),
        "pixel_std": np.array(std, np.float32).reshape(1, 3, 1, 1),
        "tiny": np.array(_TINY, np.float32),
    }

    def over(op: str, source: str, result: str, axes: list[int], **options: Any) -> onnx.NodeProto:
        """A node whose axes are an attribute in older opsets and an input in newer ones."""
        if opset < _AXES_ARE_INPUT[op]:
            return helper.make_node(op, [source], [result], axes=axes, **options)
        constants[f"{result}_axes"] = np.array(axes, np.int64)
        return helper.make_node(op, [source, f"{result}_axes"], [result], **options)

    before = [
        helper.make_node("Transpose", ["image"], ["image_planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["image_planes"], ["image_float"], to=TensorProto.FLOAT),
        over("ReduceMax", "image_float", "image_max", [1, 2, 3], keepdims=1),
        helper.make_node("Max", ["image_max", "tiny"], ["image_scale"]),
        helper.make_node("Div", ["image_float", "image_scale"], ["image_unit"]),
        helper.make_node("Sub", ["image_unit", "pixel_mean"], ["image_centred"]),
        helper.make_node("Div", ["image_centred", "pixel_std"], [source]),
    ]
    after = [
        over("Squeeze", result, "saliency", [1]),
        over("ReduceMax", "saliency", "saliency_max", [1, 2], keepdims=1),
        over("ReduceMin", "saliency", "saliency_min", [1, 2], keepdims=1),
        helper.make_node("Sub", ["saliency_max", "saliency_min"], ["saliency_range"]),
        helper.make_node("Max", ["saliency_range", "tiny"], ["saliency_scale"]),
        helper.make_node("Sub", ["saliency", "saliency_min"], ["saliency_raised"]),
        helper.make_node("Div", ["saliency_raised", "saliency_scale"], ["alpha"]),
    ]
    network = NETWORKS[name]
    [image], [alpha] = network.inputs, network.outputs
    return wrapping.wrap(
        published,
        name,
        before,
        after,
        constants,
        [helper.make_tensor_value_info(image.name, TensorProto.UINT8, ["batch", *image.dims])],
        [helper.make_tensor_value_info(alpha.name, TensorProto.FLOAT, ["batch", *alpha.dims])],
    )


def reference(path: Path, name: str) -> InferenceFn:
    """The published file in onnxruntime, image by image, between the two halves of rembg's arithmetic in numpy."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    source, result = session.get_inputs()[0].name, session.get_outputs()[0].name
    mean, std = NORMALISATIONS[name]

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        alphas = []
        for image in inputs["image"]:
            unit = image / max(image.max(), _TINY)
            planes = ((unit - mean) / std).transpose(2, 0, 1)[None].astype(np.float32)
            saliency = session.run([result], {source: planes})[0][0, 0]
            lowest, highest = saliency.min(), saliency.max()
            alphas.append((saliency - lowest) / max(highest - lowest, _TINY))
        return {"alpha": np.stack(alphas).astype(np.float32)}

    return run


def _read(path: Path, network: Network) -> onnx.ModelProto:
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}; check the path.")
    try:
        published = onnx.load(str(path))
        onnx.checker.check_model(published)
    except (DecodeError, onnx.checker.ValidationError):
        raise CheckpointError(f"{path.name} is damaged or no ONNX file; fetch the file again.") from None
    side = network.inputs[0].dims[0]
    weights = {tensor.name for tensor in published.graph.initializer}
    inputs = [value for value in published.graph.input if value.name not in weights]
    if len(inputs) != 1 or not (
        _fits(inputs[0], (1, 3, side, side)) and _fits(published.graph.output[0], (1, 1, side, side))
    ):
        raise CheckpointError(
            f"{path.name} is not an ONNX file of {network.name} (one image of {side} x {side} in, its matte out); "
            "use one that rembg publishes for it."
        )
    return published


def _fits(value: onnx.ValueInfoProto, shape: tuple[int | str, ...]) -> bool:
    """Whether an FP32 tensor can have this shape; a file may leave sizes open."""
    tensor = value.type.tensor_type
    dims = [dim.dim_value for dim in tensor.shape.dim]
    return (
        tensor.elem_type == TensorProto.FLOAT
        and len(dims) == len(shape)
        and all(found in (0, wanted) for found, wanted in zip(dims, shape))
    )


def _group(name: str, published: tuple[PublishedCheckpoint, ...], recipes: tuple[Recipe, ...] = ()) -> Group:
    return Group(name, partial(exports, name=name), published, recipes, needs_torch=False)


def _make_u2net(weights: Path) -> Parts:
    return build(onnx.load(str(weights)), "u2net"), {}


_RECIPE = Recipe(
    "u2net",
    U2NETP,
    _make_u2net,
    partial(reference, name="u2net"),
    (sys.modules[__name__], wrapping),
)

GROUPS = (
    _group(
        "u2net",
        (
            single_file(
                "u2net",
                "u2net",
                f"{_REMBG}/u2net.onnx",
                "8d10d2f3bb75ae3b6d527c77944fc5e7dcd94b29809d47a739a7a728a912b491",
                175_997_641,
                "U²-Net, rembg's default",
            ),
            single_file(
                "u2netp",
                "u2net",
                f"{_REMBG}/u2netp.onnx",
                "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
                4_574_861,
                "U²-Net-p, the small one",
            ),
        ),
        (_RECIPE,),
    ),
    _group(
        "isnet",
        (
            single_file(
                "isnet-general-use",
                "isnet",
                f"{_REMBG}/isnet-general-use.onnx",
                "60920e99c45464f2ba57bee2ad08c919a52bbf852739e96947fbb4358c0d964a",
                178_648_008,
                "IS-Net, finer outlines",
            ),
        ),
    ),
)
