"""How long the phases of a request take."""

from __future__ import annotations

import time


class Stopwatch:
    """Seconds by phase, and in total from its making on."""

    def __init__(self) -> None:
        self._began = self._lap = time.perf_counter()
        self._seconds: dict[str, float] = {}

    def restart(self) -> None:
        """Forget the phases, for another try."""
        self._seconds = {}
        self._lap = time.perf_counter()

    def lap(self, phase: str) -> None:
        """End a phase, which began where the one before ended."""
        now = time.perf_counter()
        self._seconds[phase], self._lap = now - self._lap, now

    def all(self) -> dict[str, float]:
        """The phases in their order, and "total"."""
        return {**self._seconds, "total": time.perf_counter() - self._began}
