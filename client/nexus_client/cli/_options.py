"""The options that commands share, and the parsers of their values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import typer


@dataclass(frozen=True)
class Connection:
    """The server's address, and a call's budget in seconds (None: the operation's default)."""

    url: str
    timeout: float | None

    @classmethod
    def of(cls, context: typer.Context, url: str | None, timeout: float | None) -> Connection:
        """Return the values after the subcommand, else those before it or the defaults."""
        before: Connection = context.obj
        return cls(before.url if url is None else url, before.timeout if timeout is None else timeout)


class Click(NamedTuple):
    """A point in pixels."""

    x: float
    y: float


class Corners(NamedTuple):
    """The top left and bottom right corner of a box, in pixels."""

    x0: float
    y0: float
    x1: float
    y1: float


def point(value: str) -> Click:
    """Read "X,Y"."""
    try:
        return Click(*map(float, value.split(",")))
    except (ValueError, TypeError):
        raise typer.BadParameter(f"{value!r} is not two numbers such as 320,240") from None


def box(value: str) -> Corners:
    """Read "X0,Y0,X1,Y1"."""
    try:
        return Corners(*map(float, value.split(",")))
    except (ValueError, TypeError):
        raise typer.BadParameter(f"{value!r} is not four numbers such as 40,60,210,400") from None


def clicks(positive: list[Click] | None, negative: list[Click] | None) -> tuple[list[Click], list[int]]:
    """Return the points and their labels, positive first."""
    inside, outside = positive or [], negative or []
    return [*inside, *outside], [1] * len(inside) + [0] * len(outside)


# readable=False: typer would check the file itself, with its own messages.
ImageArgument = Annotated[
    Path, typer.Argument(metavar="IMAGE", readable=False, help="PNG, JPEG or WebP file.", show_default=False)
]
MaskArgument = Annotated[
    Path,
    typer.Argument(metavar="MASK", readable=False, help="Image, white where to fill.", show_default=False),
]
OutputOption = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        readable=False,
        help="Where to write; the suffix gives the format. Where it holds no transparency (.jpg), that becomes white.",
    ),
]
PointOption = Annotated[
    list[Click] | None,
    typer.Option(
        "--point", parser=point, metavar="X,Y", help="A click on the object, in pixels. Repeatable."
    ),
]
NegativeOption = Annotated[
    list[Click] | None,
    typer.Option("--negative", parser=point, metavar="X,Y", help="A click beside the object. Repeatable."),
]
BoxOption = Annotated[
    Corners | None, typer.Option("--box", parser=box, metavar="X0,Y0,X1,Y1", help="A box around the object.")
]
DilateOption = Annotated[
    int,
    typer.Option(
        "--dilate", min=0, metavar="N", help="Grow the mask by an ellipse of N pixels; 0 leaves it."
    ),
]
SamOption = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="sam, or sam2 if the server has it.")
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="HOST:PORT", help="The server's gRPC port; else NEXUS_URL, else localhost:8001."
    ),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option("--timeout", metavar="SECONDS", help="Budget of the call, waiting for the server included."),
]
