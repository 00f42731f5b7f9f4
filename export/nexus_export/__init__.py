"""Checkpoints to networks: what builds the ONNX files that the model repository serves.

Building a network of the compact profile needs numpy and onnx only; torch is needed to change a network's
code, and is imported by no module that the `nexus-export` command loads.
"""

from nexus_export.errors import BuildError, CheckpointError, ExportError, SourceError, TemplateError

__version__ = "0.1.0"

__all__ = ["BuildError", "CheckpointError", "ExportError", "SourceError", "TemplateError", "__version__"]
