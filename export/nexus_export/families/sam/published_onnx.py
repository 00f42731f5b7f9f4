"""Read SAM's weights out of published ONNX exports, under the names of the published checkpoints.

The exporter keeps most names and renames the weights that constant folding changed: linear weights are transposed
("onnx::MatMul_*"), the weights of 2-d norms get two more axes ("onnx::Mul_*", "onnx::Add_*"), the decoder's output
tokens are joined ("onnx::Expand_*"), the encoder's convolutions took in the batch normalisations behind them
("onnx::Conv_*"), and its attention biases were spread over the pairs of tokens. Each is recognised by the node that
reads it, since the numbers differ from one export to the next.

The decoder's is the official export (segment_anything/utils/onnx.py through scripts/export_onnx_model.py).
"""

import re
from itertools import pairwise

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

Weights = dict[str, NDArray[np.float32]]

_NORM = re.compile(r"/((mask_downscaling|output_upscaling)\.\d)/(Mul|Add)_")


def decoder_weights(published: onnx.ModelProto) -> Weights:
    """Weights `prompt_encoder.*` and `mask_decoder.*` of a published sam.onnx, in the checkpoint's layout."""
    arrays, readers = _arrays(published), _readers(published)
    weights: Weights = {}
    for name, array in arrays.items():
        node = readers[name]
        if not name.startswith("onnx::"):
            weights[name.removeprefix("model.")] = array
        elif node.op_type == "MatMul":
            weights[_linear(node, arrays, readers)] = array.T
        elif node.op_type == "Expand":
            weights["mask_decoder.iou_token.weight"] = array[0, :1]
            weights["mask_decoder.mask_tokens.weight"] = array[0, 1:]
        elif norm := _NORM.search(node.output[0]):
            part = "prompt_encoder" if norm[2] == "mask_downscaling" else "mask_decoder"
            weights[f"{part}.{norm[1]}.{'weight' if norm[3] == 'Mul' else 'bias'}"] = array.ravel()
        else:
            # The one left is multiplied with 1 - has_mask_input.
            weights["prompt_encoder.no_mask_embed.weight"] = array.reshape(1, -1)
    return weights


def encoder_weights(published: onnx.ModelProto) -> Weights:
    """Weights `image_encoder.*` of MobileSAM's published encoder, its batch normalisations folded."""
    arrays, readers = _arrays(published), _readers(published)
    weights: Weights = {}
    for name, array in arrays.items():
        node = readers[name]
        if not name.startswith("onnx::"):
            weights[name] = array
        elif node.op_type == "MatMul":
            weights[_linear(node, arrays, readers)] = array.T
        elif node.op_type == "Conv":
            weights[f"{_module(node)}.{'weight' if array.ndim == 4 else 'bias'}"] = array
        else:
            weights[f"{_module(node)}.{'weight' if node.op_type == 'Mul' else 'bias'}"] = array.ravel()
    for node in published.graph.node:
        if node.op_type == "Constant" and _module(node).endswith(".attn") and node.attribute[0].t.dims[1:]:
            # The first of a window's tokens is as far from every other as two tokens can be.
            pairs = numpy_helper.to_array(node.attribute[0].t)
            weights[f"{_module(node)}.attention_biases"] = pairs[:, 0]
    return {f"image_encoder.{name}": array for name, array in weights.items()}


def _arrays(published: onnx.ModelProto) -> Weights:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in published.graph.initializer}


def _readers(published: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in published.graph.node for name in node.input}


def _linear(product: onnx.NodeProto, arrays: Weights, readers: dict[str, onnx.NodeProto]) -> str:
    """The name of a linear layer's weight: the Add behind its product reads the bias, which kept its name."""
    bias: str = next(name for name in readers[product.output[0]].input if name in arrays)
    return bias.removesuffix("bias") + "weight"


def _module(node: onnx.NodeProto) -> str:
    """The module that a node came from, "/neck/neck.1/Mul" being "neck.1": a list's name is in its items' too."""
    parts: list[str] = node.name.strip("/").split("/")[:-1]
    return ".".join(part for part, inner in pairwise([*parts, ""]) if not inner.startswith(f"{part}."))
