"""Every error a call can raise.

    NexusError
    ├── InvalidInput           the request is wrong; also a ValueError
    │   └── InputNotFound      an input file does not exist; also a FileNotFoundError
    ├── NotDeployed            the server is up and does not serve this operation
    ├── ImageNotHeld           the server no longer holds an image that was sent by reference
    ├── Unavailable            no server answered within the call's budget
    │   └── OutOfMemory        the server lacks device memory for this call; not retried
    ├── DeadlineExceeded       the server took the call and was too slow; also a TimeoutError
    ├── Cancelled              the client was closed, or the server cancelled the call
    └── ServerError            the server failed, or its answer cannot be read

Each carries one plain sentence. No exception of gRPC or tritonclient leaves this package. All survive pickling, so a
job queue may pass them between processes.
"""

from __future__ import annotations

__all__ = [
    "Cancelled",
    "DeadlineExceeded",
    "ImageNotHeld",
    "InputNotFound",
    "InvalidInput",
    "NexusError",
    "NotDeployed",
    "OutOfMemory",
    "ServerError",
    "Unavailable",
]


class NexusError(Exception):
    """The base class: catch it to catch every error."""


class InvalidInput(NexusError, ValueError):
    """The image, mask, points or another argument is wrong.

    Raised before any traffic if the client can find out, else with the server's sentence. Sending the same again fails
    in the same way: correct the input.
    """


class InputNotFound(InvalidInput, FileNotFoundError):
    """The path given as an image or a mask does not exist: correct the path."""


class NotDeployed(NexusError):
    """The server is ready and does not serve this operation: deploy its pipeline, or call another server."""


class ImageNotHeld(NexusError):
    """The server does not hold the image that a reference names, or no longer.

    A transport raises it; a call then sends the image itself, so that it reaches no caller.
    """


class Unavailable(NexusError):
    """The server is down, starting, stopping or overloaded, and stayed so for the call's whole budget.

    Every operation is idempotent, so the call may be repeated later, or with a longer `timeout`.

    `tries`: how many times the request was sent. `seconds`: how long that took in all.
    """

    def __init__(self, message: str, *, tries: int = 1, seconds: float = 0.0) -> None:
        super().__init__(message)
        self.tries = tries
        self.seconds = seconds


class OutOfMemory(Unavailable):
    """The server's device has no memory for this call, on any of its tiers.

    Never retried, since a full device stays full for longer than a call waits: call another server, or try when this
    one is less busy.
    """


class DeadlineExceeded(NexusError, TimeoutError):
    """The server did not finish within `timeout` seconds: allow more, or send a smaller image.

    `timeout`: the call's budget in seconds.
    """

    def __init__(self, message: str, *, timeout: float = 0.0) -> None:
        super().__init__(message)
        self.timeout = timeout


class Cancelled(NexusError):
    """The client was closed, or the server cancelled the call."""


class ServerError(NexusError):
    """The server failed on this request, or its answer cannot be read. Report it with the server's log."""
