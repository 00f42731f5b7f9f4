"""Build the ONNX files that the model repository serves from checkpoints, measure them, and compile them for GPUs.

The layers, from the top. A module imports from those below it, never from above or from beside:

    cli                                     the command `nexus-export`, one module a subcommand
    default_profile | checkpoint_build      which networks to build, and from what
    build                                   export, precision, measurement, all or nothing into the repository
    quality | engines                       measured on photos | ONNX to TensorRT
    families | precision                    checkpoints to graphs | FP16 and INT8 passes over a graph
    inference                               torch modules and ONNX files as functions
    onnx_graphs | downloads                 templates, attention, writing | pinned files over HTTP, npm and PyPI
    artifacts | exported                    an artifact's metadata | the hand-over from `families` to `build`
    networks, files, paths, errors          every network's facts | whole files | data files | exceptions

`configs` (a developer's tool) writes the network configs of the model repository from `networks`.

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
