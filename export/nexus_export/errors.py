"""The errors of building a network. Every message is one sentence that ends in the remedy.

ExportError
├── SourceError      a pinned file could not be downloaded, stored or verified
├── CheckpointError  a checkpoint is not there, incomplete, or not one that the pipelines can serve
├── TemplateError    a template and the weights given for it do not belong together
├── QualityError     a network is not good enough at a precision, or there is nothing to measure it on
└── BuildError       a network is unknown, cannot be built here, or could not be written
"""

import re

# Python's, onnxruntime's, CUDA's and TensorRT's words for too little memory.
_OUT_OF_MEMORY = re.compile(
    "out of (host |device )?memory|outofmemory|bad[_ ]alloc|(failed|unable) to allocate|cannot allocate",
    re.IGNORECASE,
)


def means_out_of_memory(message: str) -> bool:
    """Whether an engine's message is about too little memory."""
    return _OUT_OF_MEMORY.search(message) is not None


class ExportError(Exception):
    """Any failure that a user can act on; the command prints its text and nothing else."""


class SourceError(ExportError):
    """A pinned file could not be downloaded, stored or verified."""


class CheckpointError(ExportError):
    """A checkpoint is not there, incomplete, or not one that the pipelines can serve."""


class TemplateError(ExportError):
    """A template and the weights given for it do not belong together."""


class QualityError(ExportError):
    """A network is not good enough at a precision, or there is nothing to measure it on."""


class BuildError(ExportError):
    """A network is unknown, cannot be built here, or could not be written."""
