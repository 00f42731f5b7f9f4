"""Output files: checked before the call, written whole or not at all."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import typer
from PIL import Image

from nexus_client.exceptions import InvalidInput

ALPHA_FORMATS = {"PNG", "WEBP", "TIFF", "AVIF", "JPEG2000"}


class OutputFile:
    """A file that appears under its name only when `save` has succeeded.

    Usage:

        with OutputFile(Path("out.png")) as output:
            output.save(image)
            output.report()

    Entering creates a hidden neighbour, so a folder that cannot be written raises `InvalidInput` before the call;
    leaving removes it. The format follows the suffix.
    """

    def __init__(self, path: Path, *, alpha: bool = False) -> None:
        self.path = path
        self._format = _format(path)
        if alpha and self._format not in ALPHA_FORMATS:
            raise InvalidInput(f"{path.suffix} holds no transparency: write .png or .webp")
        # Follow a link to its file: replacing would otherwise put a file in the link's place.
        self._target = Path(os.path.realpath(path))
        self._part = self._target.with_name(f".{self._target.name}.{os.getpid()}.part")

    def __enter__(self) -> OutputFile:
        if self._target.is_dir():
            raise InvalidInput(f"{str(self.path)!r} is a folder")
        if self._target.exists() and not os.access(self._target, os.W_OK):
            raise InvalidInput(f"{str(self.path)!r} is write-protected")
        try:
            self._part.touch()
        except OSError as error:
            raise InvalidInput(f"{str(self.path)!r} cannot be written: {error.strerror}") from None
        self._entered = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self._part.unlink(missing_ok=True)

    def save(self, image: Image.Image) -> None:
        """Write the image and put it in place, on white if the format has no transparency. Raises `OSError`."""
        if image.mode == "RGBA" and self._format not in ALPHA_FORMATS:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        image.save(self._part, format=self._format)
        self._part.replace(self._target)
        self._size = image.size

    def save_mask(self, mask: npt.NDArray[np.bool_]) -> None:
        """Write a mask as a grey image of 0 and 255."""
        self.save(Image.fromarray(mask.astype(np.uint8) * np.uint8(255)))

    def report(self, *facts: str) -> None:
        """Print a command's one line of output: path, size, milliseconds since entering, `facts`."""
        milliseconds = (time.monotonic() - self._entered) * 1000
        typer.echo(
            "  ".join([str(self.path), "x".join(map(str, self._size)), f"{milliseconds:.0f} ms", *facts])
        )


def _format(path: Path) -> str:
    name = Image.registered_extensions().get(path.suffix.lower())
    if name is None or name not in Image.SAVE:
        raise InvalidInput(f"{str(path)!r} needs the suffix of an image format: .png, .jpg or .webp")
    return name
