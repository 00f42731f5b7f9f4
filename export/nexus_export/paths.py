"""Where the data files of this package lie."""

from pathlib import Path

_PACKAGE = Path(__file__).parent
#: Graphs without weights, see `onnx_graphs.template`.
TEMPLATES = _PACKAGE / "templates"
#: Weights of our own training.
WEIGHTS = _PACKAGE / "weights"
#: Real photos to measure quality on, in a checkout.
PHOTOS = Path("demo/photos")
