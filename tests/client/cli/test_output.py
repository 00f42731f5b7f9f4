"""The files that `nexus` writes: checked before the call, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nexus_client import ServerError
from PIL import Image

from tests.client.support.fakes import Nexus, png


def test_transparency_needs_a_format_that_has_it(nexus: Nexus) -> None:
    result = nexus("remove-background", "photo.png", "--background", "transparent", "-o", "out.jpg")
    assert result.exit_code == 2
    assert result.stderr == "nexus: .jpg holds no transparency: write .png or .webp\n"
    assert nexus.mock.calls == []


@pytest.mark.parametrize("suffix", ["jpg", "bmp", "png", "webp", "tif"])
@pytest.mark.parametrize("command", [("cleanup", "photo.png", "mask.png"), ("smart-remove", "photo.png")])
def test_transparency_becomes_white_where_the_format_has_none(
    nexus: Nexus, command: tuple[str, ...], suffix: str
) -> None:
    black = np.zeros((16, 16, 4), np.uint8)
    black[:, 8:, 3] = 255
    nexus.mock.outputs = {
        "image": np.array([[png(Image.fromarray(black))]], np.object_),
        "mask": np.array([[png(Image.new("L", (16, 16)))]], np.object_),
        "score": np.array([[1]], np.float32),
    }
    result = nexus(*command, "-o", f"out.{suffix}")
    assert result.exit_code == 0
    written = Image.open(f"out.{suffix}")
    assert written.mode == ("RGB" if suffix in ("jpg", "bmp") else "RGBA")
    # The halves are whole JPEG blocks of one colour each, which JPEG stores exactly.
    if written.mode == "RGB":
        expected = np.repeat(255 - black[..., 3:], 3, axis=2)
        np.testing.assert_array_equal(np.asarray(written), expected)
    else:
        np.testing.assert_array_equal(np.asarray(written)[..., 3], black[..., 3])


def test_the_mask_has_a_file_of_its_own(nexus: Nexus) -> None:
    Path("link.png").symlink_to("out.png")
    for mask in ("out.png", "./out.png", "link.png"):
        result = nexus("smart-remove", "photo.png", "--point", "1,2", "-o", "out.png", "--mask-output", mask)
        assert result.exit_code == 2
        assert result.stderr == "nexus: --output and --mask-output name the same file: give each its own\n"
    assert nexus.mock.calls == []


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("absent/out.png", "'absent/out.png' cannot be written: No such file or directory"),
        ("folder.png", "'folder.png' is a folder"),
        ("out", "'out' needs the suffix of an image format: .png, .jpg or .webp"),
        ("out.txt", "'out.txt' needs the suffix of an image format: .png, .jpg or .webp"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_the_call(
    nexus: Nexus, output: str, sentence: str
) -> None:
    Path("folder.png").mkdir()
    result = nexus("cleanup", "photo.png", "mask.png", "-o", output)
    assert result.exit_code == 2
    assert result.stderr == f"nexus: {sentence}\n"
    assert nexus.mock.calls == []


def test_a_write_protected_output_is_refused(nexus: Nexus, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("out.png").touch()
    # Patched, since root may write everywhere.
    monkeypatch.setattr("os.access", lambda path, _: path.name != "out.png")
    result = nexus("cleanup", "photo.png", "mask.png", "-o", "out.png")
    assert result.exit_code == 2
    assert result.stderr == "nexus: 'out.png' is write-protected\n"


def test_a_failed_call_leaves_the_old_output(nexus: Nexus) -> None:
    Path("out.png").write_bytes(b"old")
    nexus.mock.faults = [ServerError("broken")]
    assert nexus("cleanup", "photo.png", "mask.png", "-o", "out.png").exit_code == 1
    assert Path("out.png").read_bytes() == b"old"
    assert nexus.files() == {"out.png"}


def test_a_failed_write_leaves_the_old_output(nexus: Nexus, monkeypatch: pytest.MonkeyPatch) -> None:
    save = Image.Image.save

    def disk_full(image: Image.Image, file: Any, **options: Any) -> None:
        save(image, file, **options)
        if isinstance(file, Path):  # the mock's answers are saved in memory
            raise OSError(28, "No space left on device")

    Path("out.png").write_bytes(b"old")
    monkeypatch.setattr(Image.Image, "save", disk_full)
    result = nexus("cleanup", "photo.png", "mask.png", "-o", "out.png")
    assert result.exit_code == 1
    assert result.stderr == "nexus: the output cannot be written: No space left on device\n"
    assert Path("out.png").read_bytes() == b"old"
    assert nexus.files() == {"out.png"}


def test_a_link_keeps_pointing_at_the_file_it_names(nexus: Nexus) -> None:
    Path("link.png").symlink_to("real.png")
    assert nexus("cleanup", "photo.png", "mask.png", "-o", "link.png").exit_code == 0
    assert Path("link.png").is_symlink()
    assert Image.open("real.png").size == (40, 30)
