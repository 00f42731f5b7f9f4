"""`nexus generative-fill`: shows progress, writes previews, and cancels the fill on the server at Ctrl-C."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from nexus_client._results import FillProgress
from nexus_client.exceptions import InvalidInput

from ._options import Connection, ImageArgument, MaskArgument, OutputOption, TimeoutOption, UrlOption
from ._output import OutputFile
from ._progress import StepDisplay
from ._session import INVALID_INPUT, fail, session

# Steps between two previews, by default.
PREVIEW_EVERY = 5


def generative_fill(
    context: typer.Context,
    image: ImageArgument,
    mask: MaskArgument,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What to paint there.", show_default=False)],
    output: OutputOption,
    negative_prompt: Annotated[
        str | None, typer.Option("--negative-prompt", metavar="TEXT", help="Things to avoid.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", metavar="N", help="Steps of denoising.")] = None,
    guidance_scale: Annotated[
        float | None,
        typer.Option(
            "--guidance-scale", metavar="G", help="How closely to follow the prompt; 1 turns guidance off."
        ),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            "--strength", metavar="S", help="How much of the old content to give up, above 0 up to 1."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="The same seed gives the same picture.")
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler", metavar="NAME", help="Such as euler, euler_ancestral, dpmpp_2m, ddim, lcm."
        ),
    ] = None,
    previews: Annotated[
        Path | None,
        typer.Option(
            "--previews",
            metavar="DIR",
            readable=False,
            help="Write previews here, as step_0005.jpg and so on.",
        ),
    ] = None,
    preview_every: Annotated[
        int | None,
        typer.Option(
            "--preview-every",
            min=1,
            metavar="N",
            help=f"Steps between previews; {PREVIEW_EVERY} unless given.",
        ),
    ] = None,
    url: UrlOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Repaint the white part of MASK from PROMPT; options that are left out follow the server's defaults."""
    if preview_every is not None and previews is None:
        fail("--preview-every needs a folder for the previews: add --previews DIR", INVALID_INPUT)
    with session(Connection.of(context, url, timeout)) as client, OutputFile(output) as file:
        if previews is not None:
            _make_folder(previews)
        events = client.generative_fill_stream(
            image,
            mask,
            prompt,
            negative_prompt=negative_prompt,
            steps=steps,
            guidance_scale=guidance_scale,
            strength=strength,
            seed=seed,
            scheduler=scheduler,
            preview_every=0 if previews is None else preview_every or PREVIEW_EVERY,
        )
        with closing(events), StepDisplay() as display:
            for event in events:
                if isinstance(event, FillProgress):
                    display.show(event.step, event.total)
                    if event.preview is not None and previews is not None:
                        with OutputFile(previews / f"step_{event.step:04}.jpg") as preview:
                            preview.save(event.preview)
                else:
                    result = event
        for notice in result.notices:
            typer.echo(f"nexus: {notice}", err=True)
        file.save(result.image)
        file.report(result.model, f"seed {result.seed}")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"the folder {str(folder)!r} cannot be made: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise InvalidInput(f"the folder {str(folder)!r} is write-protected")
