"""From errors to exit codes: every command runs inside `session`. Knows nothing of the single operations."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from nexus_client._client import Client
from nexus_client.exceptions import DeadlineExceeded, InvalidInput, NexusError, NotDeployed, Unavailable

from ._options import Connection

OTHER_FAILURE = 1
INVALID_INPUT = 2
UNAVAILABLE = 3
DEADLINE = 4
NOT_DEPLOYED = 5
INTERRUPTED = 130
"""As a shell says of a process that SIGINT has ended."""

EXIT_CODES = (
    "Exit codes: 0 done; 1 any other failure; 2 invalid input or usage; 3 server unavailable; "
    "4 slower than --timeout; 5 operation not deployed; 130 interrupted."
)


@contextmanager
def session(connection: Connection) -> Iterator[Client]:
    """Yield a client; turn what goes wrong into one line on stderr and an exit code."""
    try:
        with _announced_waits(), Client(connection.url, timeout=connection.timeout) as client:
            yield client
    except NexusError as error:
        fail(str(error), _exit_code(error))
    except KeyboardInterrupt:  # leaving the client above has cancelled the call
        fail("interrupted; the call is cancelled", INTERRUPTED)
    except OSError as error:
        fail(f"the output cannot be written: {error.strerror or error}")


def fail(sentence: str, code: int = OTHER_FAILURE) -> NoReturn:
    """Print one line on stderr and leave with `code`."""
    typer.echo(f"nexus: {' '.join(sentence.split())}", err=True)
    raise typer.Exit(code)


def _exit_code(error: NexusError) -> int:
    if isinstance(error, InvalidInput):
        return INVALID_INPUT
    if isinstance(error, Unavailable):
        return UNAVAILABLE
    if isinstance(error, DeadlineExceeded):
        return DEADLINE
    if isinstance(error, NotDeployed):
        return NOT_DEPLOYED
    return OTHER_FAILURE


@contextmanager
def _announced_waits() -> Iterator[None]:
    """Say once that the server is being waited for, so that a silent minute explains itself."""
    logger = logging.getLogger("nexus_client")
    notice = _Notice()
    logger.addHandler(notice)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(notice)


class _Notice(logging.Handler):
    said = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self.said:
            self.said = True
            typer.echo(f"nexus: {record.getMessage()}", err=True)
