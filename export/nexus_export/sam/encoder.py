"""SAM's image encoder as a network: uint8 pixels in, embedding out.

The source is the ONNX export of MobileSAM's TinyViT (Zhang et al. 2023, arXiv:2306.14289), which takes
normalised FP32 planes. Normalisation is that of segment_anything's `Sam.preprocess`: subtract the mean,
divide by the deviation, then fill up to 1024x1024 with zeros.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nexus_export.onnx_graphs.wrapping import wrap

IMAGE_SIZE = 1024
EMBEDDING_SHAPE = (256, 64, 64)

#: Mean and deviation of RGB in [0, 255], those of segment_anything.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)

#: The uint8 colour that a letterbox must pad with: it normalises to zero, SAM's own padding, within 0.009.
PADDING_COLOUR = (124, 116, 104)


def build_sam_encoder(encoder: onnx.ModelProto) -> onnx.ModelProto:
    """Wrap a published encoder: input FP32 [B,3,1024,1024] normalised, one output FP32 [B,256,64,64].

    The network that comes back:

    - input `image`, UINT8 [B,1024,1024,3]: RGB, the longest side scaled to 1024, at the top left, padded
      with `PADDING_COLOUR`. SAM pads with zeros after the normalisation, which no uint8 is exactly; the
      rounded mean is nearest, less than half a grey level off.
    - output `embedding`, FP32 [B,256,64,64].
    """
    encoder = _with_free_batch_axis(encoder)
    source, result = encoder.graph.input[0].name, encoder.graph.output[0].name
    before = [
        helper.make_node("Transpose", ["image"], ["image_planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["image_planes"], ["image_float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["image_float", "pixel_mean"], ["image_centred"]),
        helper.make_node("Div", ["image_centred", "pixel_std"], [source]),
    ]
    after = [helper.make_node("Identity", [result], ["embedding"])]
    constants = {
        "pixel_mean": np.array(PIXEL_MEAN, np.float32).reshape(1, 3, 1, 1),
        "pixel_std": np.array(PIXEL_STD, np.float32).reshape(1, 3, 1, 1),
    }
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", IMAGE_SIZE, IMAGE_SIZE, 3])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", *EMBEDDING_SHAPE])
    return wrap(encoder, "sam_encoder", before, after, constants, [image], [embedding])


def _with_free_batch_axis(encoder: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose reshapes to a fixed [1, height, width, -1] keep the batch that they are given.

    The published file declares a dynamic batch, yet tracing froze it in TinyViT's two patch-merging steps
    (`x.view(B, H, W, -1)` with B = len(x)); a 0 in a Reshape's shape means "as in the input".
    """
    model = onnx.ModelProto()
    model.CopyFrom(encoder)
    shapes = {node.input[1] for node in model.graph.node if node.op_type == "Reshape"}
    for node in model.graph.node:
        if node.op_type != "Constant" or node.output[0] not in shapes:
            continue
        shape = numpy_helper.to_array(node.attribute[0].t).copy()
        if shape.size == 4 and shape[0] == 1:
            shape[0] = 0
            node.attribute[0].t.CopyFrom(numpy_helper.from_array(shape))
    return model
