"""The command `nexus-export`: arguments, progress and messages around `nexus_export.networks`."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from nexus_export.errors import ExportError
from nexus_export.networks import State, build, choose, state
from nexus_export.sources import PinnedFile, fetch

app = typer.Typer(
    help="Build the networks that the model repository serves.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Names = Annotated[list[str] | None, typer.Argument(metavar="[NETWORK]...", help="Which ones; default: all.")]
Out = Annotated[Path, typer.Option("--out", help="The model repository.")]
Cache = Annotated[Path, typer.Option("--cache", help="Where downloaded files are kept.")]

_REPOSITORY = Path("model_repository")
_CACHE = Path("build/cache")


@app.command("build")
def build_command(networks: Names = None, out: Out = _REPOSITORY, cache: Cache = _CACHE) -> None:
    """Build networks into the model repository, each as 1/model.onnx; what is up to date is left alone."""
    for network in choose(networks or []):
        if state(network, out) is State.UP_TO_DATE:
            print(f"{network.name}: up to date")
            continue
        started = time.monotonic()
        with _Progress(network.name) as progress:
            path = build(network, out, cache, progress.report)
        megabytes = path.stat().st_size / 1e6
        print(f"{network.name}: built in {time.monotonic() - started:.1f} s, {megabytes:.0f} MB")


@app.command("fetch")
def fetch_command(networks: Names = None, cache: Cache = _CACHE) -> None:
    """Download the published files that networks are built from, and verify them."""
    for network in choose(networks or []):
        if isinstance(network.weights, PinnedFile):
            with _Progress(network.name) as progress:
                path = fetch(network.weights, cache, progress.report)
            print(f"{network.name}: {path}")


@app.command("list")
def list_command(out: Out = _REPOSITORY) -> None:
    """Show every network: where its weights come from, their licence, and whether it is built."""
    table = Table("network", "weights", "licence", "state", box=None, pad_edge=False)
    for network in choose([]):
        table.add_row(network.name, network.source, network.licence, state(network, out).value)
    Console().print(table)


class _Progress:
    """A spinner with the current step on a terminal, a line a step elsewhere; both on stderr."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._console = Console(stderr=True)
        self._status = self._console.status(name)

    def __enter__(self) -> "_Progress":
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def report(self, step: str) -> None:
        self._status.update(f"{self._name}: {step}")
        if not self._console.is_terminal:
            print(f"{self._name}: {step}", file=sys.stderr, flush=True)


def main() -> None:
    """Run the command; what a user can act on is one line on stderr and exit code 1."""
    try:
        app()
    except ExportError as error:
        sys.exit(f"nexus-export: {error}")


if __name__ == "__main__":
    main()
