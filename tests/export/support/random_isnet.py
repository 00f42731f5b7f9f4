"""A random network on the interface of rembg's isnet-general-use.onnx, which no package carries.

`python -m tests.export.random_isnet REPOSITORY FILE` writes it to FILE and builds the network isnet out of it
into a model repository, for the tests that have no onnx.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from nexus_export.families.u2net import exports
from nexus_export.networks import artifact
from nexus_export.onnx_graphs.writing import write_network
from onnx import TensorProto, helper, numpy_helper


def write_isnet(path: Path, side: int = 1024, opset: int = 13, batch: int | str = 1, width: int = 8) -> Path:
    """Halve, convolve, double, squash: a network that sees neighbours, seeded, `width` channels wide."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.normal(0, 0.3, (width, 3, 5, 5)).astype(np.float32),
        # As far apart at any width.
        "w2": rng.normal(0, 0.3 * (8 / width) ** 0.5, (1, width, 3, 3)).astype(np.float32),
        "roi": np.zeros(0, np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["input_image", "w1"], ["a"], strides=[2, 2], pads=[2] * 4),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], pads=[1] * 4),
        helper.make_node("Resize", ["c", "roi", "scales"], ["d"], mode="linear"),
        helper.make_node("Sigmoid", ["d"], ["output_image"]),
        helper.make_node("Sigmoid", ["c"], ["side"]),
    ]
    graph = helper.make_graph(
        nodes,
        "isnet",
        [helper.make_tensor_value_info("input_image", TensorProto.FLOAT, [batch, 3, side, side])],
        [
            helper.make_tensor_value_info("output_image", TensorProto.FLOAT, [batch, 1, "h", "w"]),
            helper.make_tensor_value_info("side", TensorProto.FLOAT, [batch, 1, side // 2, side // 2]),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), str(path)
    )
    return path


if __name__ == "__main__":
    repository, published = Path(sys.argv[1]), Path(sys.argv[2])
    [export] = exports(write_isnet(published), "isnet")
    write_network(export.template, artifact("isnet", repository), export.weights)
