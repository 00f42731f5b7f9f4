"""Where the data files of this package lie."""

from pathlib import Path

PACKAGE = Path(__file__).parent
# Graphs without weights, see `onnx_graphs.template`.
TEMPLATES = PACKAGE / "templates"
# Weights of our own training.
WEIGHTS = PACKAGE / "weights"
LAMA_TEMPLATE = TEMPLATES / "lama_compact.onnx"
LAMA_WEIGHTS = WEIGHTS / "lama_compact.safetensors"
# Real photos to measure quality on, in a checkout.
PHOTOS = Path("demo/photos")
