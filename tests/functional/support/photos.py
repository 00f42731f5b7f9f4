"""Demo photos as the tests send them, and masks on them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.functional.support.deployment import PHOTOS


def photo_array(name: str) -> npt.NDArray[np.uint8]:
    """A demo photo, UINT8 [H, W, 3]."""
    return np.asarray(Image.open(PHOTOS / name).convert("RGB"))


def unique_photo(number: int) -> bytes:
    """A PNG that no other test sends, so that no cache has it: the astronaut with a corner of a unique colour."""
    photo = Image.open(PHOTOS / "astronaut.jpg").convert("RGB")
    photo.paste((number % 256, number // 256, 255 - number % 256), (0, 0, 40, 40))
    data = io.BytesIO()
    photo.save(data, "PNG", compress_level=1)
    return data.getvalue()


def ellipse(shape: tuple[int, ...], centre: tuple[int, int], axes: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """BOOL [H, W], True inside an upright ellipse; `centre` and `axes` are x, y."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    return np.asarray(((x - centre[0]) / axes[0]) ** 2 + ((y - centre[1]) / axes[1]) ** 2 <= 1)


def rembg_alpha(
    path: Path, model: str, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> npt.NDArray[np.int16]:
    """The alpha, INT16 [H, W], by the rembg package with `weights`, whose file name must be the one that it expects."""
    monkeypatch.setenv("U2NET_HOME", str(weights.parent))
    # Otherwise its import compiles alpha matting, unused here, for most of a minute.
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    import rembg  # reads the environment when a session is made

    photo = Image.open(path).convert("RGB")
    return np.asarray(rembg.remove(photo, session=rembg.new_session(model), only_mask=True), np.int16)
