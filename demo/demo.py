"""Edits real photos through a real Triton: every operation once, a contact sheet, and a table of times.

Run by `make demo`, which has built the environment and the networks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import contact_sheet
import numpy as np
import numpy.typing as npt
from nexus_client import Client, NexusError
from nexus_server.errors import ServerError
from nexus_server.local import LocalServer
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
PHOTOS = HERE / "photos"
OUT = HERE / "out"
LOG = HERE.parent / "build/demo-server.log"
# What the default networks can paint; see the card of the compact SDXL in MODELS.md.
PROMPTS = ("a shiny red ball", "a blue cube", "a yellow star")

Result = TypeVar("Result")
console = Console(highlight=False)


@dataclass
class Timings:
    """Milliseconds of every call, for the table at the end."""

    table: Table

    def call(self, operation: str, size: tuple[int, int], run: Callable[[], Result]) -> Result:
        start = time.perf_counter()
        result = run()
        milliseconds = (time.perf_counter() - start) * 1000
        self.table.add_row(operation, f"{size[0]} x {size[1]}", f"{milliseconds:.0f}")
        console.print(f"  {operation} ... {milliseconds:.0f} ms")
        return result


def main(models: Path) -> None:
    OUT.mkdir(exist_ok=True)
    console.print("starting Triton on loopback ...")
    table = Table("operation", "size", "ms")
    table.columns[1].justify = table.columns[2].justify = "right"
    with LocalServer(models, LOG) as server, Client(server.url) as client:
        console.print(f"ready at {server.url}; editing photos:")
        sheet = run(client, Timings(table))
    sheet.save(OUT / "contact_sheet.png")
    console.print(table)
    console.print(f"every result is in {OUT}; look at contact_sheet.png first")


def run(client: Client, timings: Timings) -> Image.Image:
    """Call every operation; returns the contact sheet."""
    rows = []

    photo, path = load("coffee.jpg")
    opened = client.open(path)
    clicks = [(240, 160), (150, 330)]
    timings.call("segment, first click", photo.size, lambda: client.segment(opened, clicks[:1]))
    found = timings.call("segment, second click", photo.size, lambda: client.segment(opened, clicks))
    cutout = Image.composite(photo, Image.new("RGB", photo.size, "white"), Image.fromarray(found.mask))
    save(Image.fromarray(found.mask), "segment_mask.png")
    rows.append(contact_sheet.Row("segment: two clicks", mark(photo, clicks), found.mask, cutout))

    photo, path = load("rocket.jpg")
    box = (308, 108, 356, 376)
    gone = timings.call("smart_remove, a box", photo.size, lambda: client.smart_remove(path, box=box))
    save(gone.image, "smart_remove.png")
    rows.append(contact_sheet.Row("smart_remove: a box", mark(photo, box=box), gone.mask, gone.image))

    photo, path = load("dragonfly.jpg")
    box = (3140, 1385, 3345, 1700)
    gone = timings.call("smart_remove, 13 megapixels", photo.size, lambda: client.smart_remove(path, box=box))
    save(gone.image, "smart_remove_large.png")
    window = (2500, 1050, 3700, 1950)
    rows.append(
        contact_sheet.Row(
            "smart_remove: a detail of 13 megapixels",
            mark(photo, box=box).crop(window),
            np.asarray(Image.fromarray(gone.mask).crop(window)),
            gone.image.crop(window),
        )
    )

    photo, path = load("chelsea.jpg")
    scratched, mask = scratch(photo)
    clean = timings.call("cleanup", photo.size, lambda: client.cleanup(scratched, mask))
    save(clean, "cleanup.png")
    rows.append(contact_sheet.Row("cleanup: scratches", scratched, mask, clean))

    photo, path = load("astronaut.jpg")
    cut = timings.call(
        "remove_background", photo.size, lambda: client.remove_background(path, background="transparent")
    )
    save(cut, "remove_background.png")
    alpha = np.asarray(cut.getchannel("A"))
    rows.append(
        contact_sheet.Row("remove_background: transparent", photo, alpha, contact_sheet.on_checkerboard(cut))
    )

    photo, path = load("bridge.jpg")
    hole = disc(photo.size, (700, 250), 145)
    for prompt in PROMPTS:
        painted = timings.call(
            "generative_fill, 12 steps",
            photo.size,
            lambda prompt=prompt: client.generative_fill(  # type: ignore[misc]
                path, hole, prompt, steps=12, strength=1.0, guidance_scale=5.0
            ),
        )
        save(painted.image, f"generative_fill_{prompt.replace(' ', '_')}.png")
        for notice in painted.notices:
            console.print(f"    note: {notice}")
        rows.append(contact_sheet.Row(f'generative_fill: "{prompt}"', photo, hole, painted.image))
    return contact_sheet.draw(rows)


def load(name: str) -> tuple[Image.Image, Path]:
    """A demo photo in RGB, and the path that the client is given."""
    return Image.open(PHOTOS / name).convert("RGB"), PHOTOS / name


def save(image: Image.Image, name: str) -> None:
    image.save(OUT / name)


def mark(
    photo: Image.Image,
    clicks: list[tuple[int, int]] | None = None,
    box: tuple[int, int, int, int] | None = None,
) -> Image.Image:
    """The photo with its clicks as dots and its box as a frame, in a size that shows on the sheet."""
    marked = photo.copy()
    draw = ImageDraw.Draw(marked)
    unit = max(photo.size) / 100
    for x, y in clicks or []:
        draw.ellipse(
            (x - unit, y - unit, x + unit, y + unit),
            fill="lime",
            outline="black",
            width=max(1, int(unit / 4)),
        )
    if box:
        draw.rectangle(box, outline="lime", width=max(2, int(unit / 2)))
    return marked


def disc(size: tuple[int, int], centre: tuple[int, int], radius: int) -> npt.NDArray[np.bool_]:
    """BOOL [H, W] for a photo of `size` (width, height), True inside a circle."""
    y, x = np.ogrid[: size[1], : size[0]]
    return np.asarray((x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2)


def scratch(photo: Image.Image) -> tuple[Image.Image, npt.NDArray[np.bool_]]:
    """Draw white scratches on a photo; returns it with the BOOL [H, W] mask of them."""
    layer = Image.new("L", photo.size)
    draw = ImageDraw.Draw(layer)
    for line in (
        ((20, 40), (200, 250)),
        ((60, 270), (430, 190)),
        ((230, 10), (330, 140)),
        ((400, 30), (300, 290)),
    ):
        draw.line(line, fill=255, width=5)
    return Image.composite(Image.new("RGB", photo.size, "white"), photo, layer), np.asarray(layer) > 0


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]) if sys.argv[1:] else HERE.parent / "model_repository")
    except (NexusError, ServerError, OSError) as error:
        sys.exit(f"demo: {error}\ndemo: the server's log is {LOG}")
    except KeyboardInterrupt:
        sys.exit("demo: stopped")
