"""INT8 activations as TensorRT reads them: signed, and zero at zero.

ONNX Runtime is quicker and finer on a CPU with UINT8 and a zero point, so the ONNX files for CPUs have those.
"""

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

_QUANTIZERS = {"QuantizeLinear", "DequantizeLinear"}
_ZERO = "symmetric_zero"


def make_symmetric(model: onnx.ModelProto) -> None:
    """Let every UINT8 quantizer of `model` be an INT8 one with a zero point of 0 that covers the same range.

    A scale at most doubles, for a tensor that is never negative: one bit of 8 is lost there.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    scales: dict[tuple[str, str], str] = {}
    for node in model.graph.node:
        if node.op_type not in _QUANTIZERS or weights[node.input[2]].data_type != TensorProto.UINT8:
            continue
        key = (node.input[1], node.input[2])
        if key not in scales:
            scale, zero = (numpy_helper.to_array(weights[name]) for name in key)
            levels = max(int(zero), 255 - int(zero))
            scales[key] = f"{key[0]}_symmetric"
            widened = np.asarray(scale * (levels / 127), scale.dtype)
            model.graph.initializer.append(numpy_helper.from_array(widened, scales[key]))
        node.input[1:] = [scales[key], _ZERO]
    if scales:
        model.graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), _ZERO))
