"""The commands: one function for each operation of `Client`, and `status`; generative-fill has its own module."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ._generative_fill import generative_fill
from ._options import (
    BoxOption,
    Connection,
    DilateOption,
    ImageArgument,
    MaskArgument,
    NegativeOption,
    OutputOption,
    PointOption,
    SamOption,
    TimeoutOption,
    UrlOption,
    clicks,
)
from ._output import OutputFile
from ._session import EXIT_CODES, INVALID_INPUT, OTHER_FAILURE, UNAVAILABLE, fail, session

app = typer.Typer(
    name="nexus",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog=EXIT_CODES,
    help="Edit photos on a Nexus Canvas server. --url and --timeout may stand before or after the command.",
)


@app.callback()
def defaults(
    context: typer.Context,
    url: Annotated[
        str, typer.Option("--url", envvar="NEXUS_URL", metavar="HOST:PORT", help="The server's gRPC port.")
    ] = "localhost:8001",
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            help="Budget of the call, waiting included; 60, for generative-fill 300.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Keep the options that stand before the subcommand."""
    context.obj = Connection(url, timeout)


@app.command(epilog=EXIT_CODES)
def segment(
    context: typer.Context,
    image: ImageArgument,
    output: OutputOption,
    point: PointOption = None,
    negative: NegativeOption = None,
    box: BoxOption = None,
    min_area: Annotated[
        int | None,
        typer.Option(
            "--min-area", min=0, metavar="N", help="Drop specks and holes under N pixels; 0 keeps all."
        ),
    ] = None,
    model: SamOption = None,
    url: UrlOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Find the object under the clicks or in the box; write its mask (white inside)."""
    points, labels = clicks(point, negative)
    with session(Connection.of(context, url, timeout)) as client, OutputFile(output) as file:
        found = client.segment(image, points, labels, box, min_area=min_area, model=model)
        file.save_mask(found.mask)
        file.report(f"score {found.score:.3f}")


@app.command(epilog=EXIT_CODES)
def cleanup(
    context: typer.Context,
    image: ImageArgument,
    mask: MaskArgument,
    output: OutputOption,
    dilate: DilateOption = 3,
    url: UrlOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Fill the white part of MASK from its surroundings."""
    with session(Connection.of(context, url, timeout)) as client, OutputFile(output) as file:
        file.save(client.cleanup(image, mask, dilate=dilate))
        file.report()


@app.command("smart-remove", epilog=EXIT_CODES)
def smart_remove(
    context: typer.Context,
    image: ImageArgument,
    output: OutputOption,
    point: PointOption = None,
    negative: NegativeOption = None,
    box: BoxOption = None,
    rough_mask: Annotated[
        Path | None,
        typer.Option(
            "--rough-mask",
            metavar="FILE",
            readable=False,
            help="Image, white over the object; in place of clicks or box.",
        ),
    ] = None,
    dilate: DilateOption = 3,
    model: SamOption = None,
    mask_output: Annotated[
        Path | None,
        typer.Option(
            "--mask-output", metavar="FILE", readable=False, help="Also write the object's mask here."
        ),
    ] = None,
    url: UrlOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Find the object under the clicks or in the box, and fill its place."""
    if mask_output and os.path.realpath(mask_output) == os.path.realpath(output):
        fail("--output and --mask-output name the same file: give each its own", INVALID_INPUT)
    points, labels = clicks(point, negative)
    with (
        session(Connection.of(context, url, timeout)) as client,
        OutputFile(output) as file,
        OutputFile(mask_output) if mask_output else nullcontext() as mask_file,
    ):
        removal = client.smart_remove(image, points, labels, box, rough_mask, dilate=dilate, model=model)
        file.save(removal.image)
        if mask_file is not None:
            mask_file.save_mask(removal.mask)
        file.report(f"score {removal.score:.3f}")


@app.command("remove-background", epilog=EXIT_CODES)
def remove_background(
    context: typer.Context,
    image: ImageArgument,
    output: OutputOption,
    background: Annotated[
        str,
        typer.Option("--background", metavar="COLOUR", help="transparent, a CSS colour name, or #rrggbb."),
    ] = "white",
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="NAME", help="u2net, or isnet for finer outlines if the server has it."
        ),
    ] = None,
    url: UrlOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Keep the subject, on a colour or on nothing."""
    transparent = background.strip().lower() == "transparent"
    with (
        session(Connection.of(context, url, timeout)) as client,
        OutputFile(output, alpha=transparent) as file,
    ):
        file.save(client.remove_background(image, background=background, model=model))
        file.report()


app.command("generative-fill", epilog=EXIT_CODES)(generative_fill)


@app.command(epilog=EXIT_CODES)
def status(context: typer.Context, url: UrlOption = None, timeout: TimeoutOption = None) -> None:
    """Show what the server is ready for; exit with 3 if it is not ready."""
    connection = Connection.of(context, url, timeout)
    with session(connection) as client:
        now = client.status()
        typer.echo(f"{connection.url}  " + (f"Triton {now.version}" if now.live else "no answer"))
        table = Table()
        table.add_column("what")
        table.add_column("state")
        table.add_row("server", "ready" if now.ready else "live, not ready" if now.live else "not live")
        for name, ready in now.pipelines.items():
            table.add_row(name, "ready" if ready else "not served" if now.live else "unknown")
        Console().print(table)
    if not now.ready:
        raise typer.Exit(UNAVAILABLE)


def main() -> None:
    """Run `nexus`; an unexpected exception is one line on stderr too."""
    # gRPC's C++ core otherwise writes its own lines to stderr.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        app()
    except Exception as error:
        typer.echo(f"nexus: unexpected {type(error).__name__}: {error}", err=True)
        raise SystemExit(OTHER_FAILURE) from None
