"""The command `nexus-export`: its subcommands, one a module."""

import sys

import typer

from nexus_export.cli.build import build_command
from nexus_export.cli.engine import engine_command
from nexus_export.cli.fetch import fetch_command
from nexus_export.cli.list import list_command
from nexus_export.cli.make_tiny import make_tiny_command
from nexus_export.cli.verify import verify_command
from nexus_export.errors import ExportError

app = typer.Typer(
    help="Build the networks that the model repository serves, measure them, and compile them for a GPU.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("build")(build_command)
app.command("verify")(verify_command)
app.command("fetch")(fetch_command)
app.command("list")(list_command)
app.command("engine")(engine_command)
app.command("make-tiny")(make_tiny_command)


def main() -> None:
    """Run the command; an error that a user can act on is one line on stderr and exit code 1."""
    try:
        app()
    except ExportError as error:
        sys.exit(f"nexus-export: {error}")
