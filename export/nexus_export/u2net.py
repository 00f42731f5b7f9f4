"""U2-Net as a network: uint8 pixels in, alpha out, with rembg's arithmetic in the graph.

The source is a published U2-Net ONNX file (Qin et al. 2020, arXiv:2005.09007) of batch 1. What rembg does
around it in numpy (rembg/sessions/base.py `normalize`, u2net.py `predict`) becomes nodes, per image of the
batch: divide by the image's largest value, normalise, run, stretch the first output from 0 to 1. Scaling
the photo to 320x320 and the alpha back (Lanczos, both) stays with the caller.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper

from nexus_export.onnx_graphs.wrapping import wrap

IMAGE_SIZE = 320

#: Mean and deviation of RGB in [0, 1], ImageNet's, as in rembg.
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)


def build_u2net(published: onnx.ModelProto) -> onnx.ModelProto:
    """Wrap a published U2-Net: input FP32 [1,3,320,320], first output FP32 [1,1,320,320] in [0, 1].

    The network that comes back:

    - input `image`, UINT8 [B,320,320,3]: RGB.
    - output `alpha`, FP32 [B,320,320] in [0, 1]: 1 is foreground. The least and the largest value of
      every image are 0 and 1, unless its prediction is flat: then all are 0 (rembg divides by zero there).

    The side outputs, which only training needs, are dropped.
    """
    source, result = published.graph.input[0].name, published.graph.output[0].name
    planes = [1, 2, 3]
    before = [
        helper.make_node("Transpose", ["image"], ["image_planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["image_planes"], ["image_float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["image_float"], ["image_max"], axes=planes, keepdims=1),
        # A black image divides by a tiny number, as in rembg, not by zero.
        helper.make_node("Max", ["image_max", "tiny"], ["image_scale"]),
        helper.make_node("Div", ["image_float", "image_scale"], ["image_unit"]),
        helper.make_node("Sub", ["image_unit", "pixel_mean"], ["image_centred"]),
        helper.make_node("Div", ["image_centred", "pixel_std"], [source]),
    ]
    after = [
        helper.make_node("Squeeze", [result], ["saliency"], axes=[1]),
        helper.make_node("ReduceMax", ["saliency"], ["saliency_max"], axes=[1, 2], keepdims=1),
        helper.make_node("ReduceMin", ["saliency"], ["saliency_min"], axes=[1, 2], keepdims=1),
        helper.make_node("Sub", ["saliency_max", "saliency_min"], ["saliency_range"]),
        helper.make_node("Max", ["saliency_range", "tiny"], ["saliency_scale"]),
        helper.make_node("Sub", ["saliency", "saliency_min"], ["saliency_raised"]),
        helper.make_node("Div", ["saliency_raised", "saliency_scale"], ["alpha"]),
    ]
    constants = {
        "pixel_mean": np.array(PIXEL_MEAN, np.float32).reshape(1, 3, 1, 1),
        "pixel_std": np.array(PIXEL_STD, np.float32).reshape(1, 3, 1, 1),
        "tiny": np.array(1e-6, np.float32),
    }
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", IMAGE_SIZE, IMAGE_SIZE, 3])
    alpha = helper.make_tensor_value_info("alpha", TensorProto.FLOAT, ["batch", IMAGE_SIZE, IMAGE_SIZE])
    return wrap(published, "u2net", before, after, constants, [image], [alpha])
