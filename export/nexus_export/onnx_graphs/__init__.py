"""ONNX graphs: tracing them, taking their weights out and in, wrapping them, writing them."""
