"""Checkpoints to networks: what builds the ONNX files that the model repository serves.

Building a network of the default profile needs numpy and onnx only. torch is needed to build from a checkpoint and to
change a network's code; the `nexus-export` command imports it for a checkpoint alone.
"""

from nexus_export.errors import (
    BuildError,
    CheckpointError,
    ExportError,
    QualityError,
    SourceError,
    TemplateError,
)

__version__ = "0.3.0"

__all__ = [
    "BuildError",
    "CheckpointError",
    "ExportError",
    "QualityError",
    "SourceError",
    "TemplateError",
    "__version__",
]
