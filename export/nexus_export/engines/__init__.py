"""Networks compiled for one GPU: from ONNX files to TensorRT engines, each with a manifest."""
