"""Read SAM decoder weights out of a published ONNX export, under the names of the published checkpoint.

The official export (segment_anything/utils/onnx.py through scripts/export_onnx_model.py) keeps most names
and renames what constant folding changed: linear weights are transposed ("onnx::MatMul_*"), the weights of
2-d norms get two more axes ("onnx::Mul_*", "onnx::Add_*"), the output tokens are joined ("onnx::Expand_*").
Each is recognised by the node that reads it, since the numbers differ from one export to the next.
"""

import re

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

Weights = dict[str, NDArray[np.float32]]

_NORM = re.compile(r"/((mask_downscaling|output_upscaling)\.\d)/(Mul|Add)_")


def decoder_weights(published: onnx.ModelProto) -> Weights:
    """Weights `prompt_encoder.*` and `mask_decoder.*` of a published sam.onnx, in the checkpoint's layout."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in published.graph.initializer}
    readers = {name: node for node in published.graph.node for name in node.input}
    weights: Weights = {}
    for name, array in arrays.items():
        node = readers[name]
        if not name.startswith("onnx::"):
            weights[name.removeprefix("model.")] = array
        elif node.op_type == "MatMul":
            # A linear layer: the Add that follows names it by its bias.
            bias = next(key for key in readers[node.output[0]].input if key in arrays)
            weights[bias.removesuffix("bias") + "weight"] = array.T
        elif node.op_type == "Expand":
            weights["mask_decoder.iou_token.weight"] = array[0, :1]
            weights["mask_decoder.mask_tokens.weight"] = array[0, 1:]
        elif norm := _NORM.search(node.output[0]):
            part = "prompt_encoder" if norm[2] == "mask_downscaling" else "mask_decoder"
            weights[f"{part}.{norm[1]}.{'weight' if norm[3] == 'Mul' else 'bias'}"] = array.ravel()
        else:
            # What is left is multiplied with 1 - has_mask_input.
            weights["prompt_encoder.no_mask_embed.weight"] = array.reshape(1, -1)
    return weights
