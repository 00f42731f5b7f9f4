"""Build the ONNX files that the model repository serves from checkpoints, measure them, and compile them for GPUs.

The layers, from the top; pyproject.toml has them as a contract. A module imports from layers below its own:

    cli                                     the command `nexus-export`, one module a subcommand
    default_profile | checkpoint_build      which networks to build, and from what
    build | engines                         measured, all or nothing into the repository | ONNX to TensorRT
    quality                                 measured on what the pipelines make of photos
    families                                checkpoints to graphs, one folder or module a family
    inference | precision                   torch modules and ONNX files as functions | FP16 and INT8 passes
    artifacts | downloads | exported | onnx_graphs | configs
    networks | files                        every network's tensors and rules | files written whole
    errors | paths

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
