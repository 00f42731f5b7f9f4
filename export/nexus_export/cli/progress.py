"""The progress of a running command."""

import sys

from rich.console import Console


class Progress:
    """A spinner with the current step on a terminal, a line a step elsewhere; both on stderr."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._console = Console(stderr=True)
        self._status = self._console.status(name)

    def __enter__(self) -> "Progress":
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def report(self, step: str) -> None:
        self._status.update(f"{self._name}: {step}")
        if not self._console.is_terminal:
            print(f"{self._name}: {step}", file=sys.stderr, flush=True)
