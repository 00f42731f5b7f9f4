"""What a pipeline may raise; `triton` turns each into a gRPC status.

PipelineError
+-- BadInput        INVALID_ARGUMENT: the caller's mistake, in one plain sentence
+-- Overloaded      UNAVAILABLE: a network cannot take the call now; try again
+-- Cancelled       CANCELLED: the caller has gone
+-- NetworkFailed   INTERNAL: a network failed; the server's log says why
"""

from __future__ import annotations


class PipelineError(Exception):
    """The root. Its text goes to the caller as it is: one sentence, no path, no class name, no stack."""


class BadInput(PipelineError):
    """The input cannot be served, and would not be on another try."""


class Overloaded(PipelineError):
    """A network's queue is full, its request waited too long, or its process is being restarted."""


class Cancelled(PipelineError):
    """The caller cancelled, disconnected or ran out of time before the pipeline had finished."""


class NetworkFailed(PipelineError):
    """A network returned an error that is nobody's input."""
