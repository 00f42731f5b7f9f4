"""The progress of a generative fill: a bar on a terminal, a few plain lines elsewhere; both on stderr."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

# At most: a log needs no line for each of a hundred steps.
PLAIN_LINES = 10


class StepDisplay:
    """Shows the steps of one call.

    Usage:

        with StepDisplay() as display:
            display.show(step, total)
    """

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._plain = not console.is_terminal
        columns = (TextColumn("step"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        # Transient, so that the result's line replaces the bar. Without a total the bar pulses.
        self._bar = Progress(*columns, console=console, transient=True, disable=self._plain)
        self._task = self._bar.add_task("step", total=None)

    def __enter__(self) -> StepDisplay:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, step: int, total: int) -> None:
        """Show that `step` of `total` is done."""
        self._bar.update(self._task, completed=step, total=total)
        if self._plain and step * PLAIN_LINES // total > (step - 1) * PLAIN_LINES // total:
            typer.echo(f"nexus: step {step} of {total}", err=True)
