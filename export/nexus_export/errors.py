"""What building a network can fail with. Every message is one sentence that ends in the remedy.

ExportError
├── SourceError      a pinned file could not be downloaded, stored or verified
├── CheckpointError  a checkpoint is not there, incomplete, or not one that the pipelines can serve
├── TemplateError    a template and the weights given for it do not belong together
├── QualityError     a network is not good enough at a precision, or there is nothing to measure it on
└── BuildError       a network is unknown, cannot be built here, or could not be written
"""


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
