"""Maps errors to exit codes: every command runs inside `session`. Knows nothing of single operations."""

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
# A shell's code for a process that SIGINT ended.
INTERRUPTED = 130

CODES: dict[type[NexusError], int] = {
    InvalidInput: INVALID_INPUT,
    Unavailable: UNAVAILABLE,
    DeadlineExceeded: DEADLINE,
    NotDeployed: NOT_DEPLOYED,
}

EXIT_CODES = (
    "Exit codes: 0 done; 1 any other failure; 2 invalid input or usage; 3 server unavailable; "
    "4 slower than --timeout; 5 operation not deployed; 130 interrupted."
)


@contextmanager
def session(connection: Connection) -> Iterator[Client]:
    """Yield a client; report an error as one line on stderr and an exit code."""
    try:
        with _first_wait_logged(), Client(connection.url, timeout=connection.timeout) as client:
            yield client
    except NexusError as error:
        code = next((code for kind, code in CODES.items() if isinstance(error, kind)), OTHER_FAILURE)
        fail(str(error), code)
    except KeyboardInterrupt:  # leaving the client above has cancelled the call
        fail("interrupted; the call is cancelled", INTERRUPTED)
    except OSError as error:
        fail(f"the output cannot be written: {error.strerror or error}")


def fail(sentence: str, code: int = OTHER_FAILURE) -> NoReturn:
    """Print one line on stderr and exit with `code`."""
    typer.echo(f"nexus: {' '.join(sentence.split())}", err=True)
    raise typer.Exit(code)


@contextmanager
def _first_wait_logged() -> Iterator[None]:
    """Print once that the call waits for the server, to explain a silent minute."""
    logger = logging.getLogger("nexus_client")
    handler = _FirstRecord()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _FirstRecord(logging.Handler):
    printed = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self.printed:
            self.printed = True
            typer.echo(f"nexus: {record.getMessage()}", err=True)
