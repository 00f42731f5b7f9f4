"""`nexus generative-fill` with the transport mocked: its request, display and files; and Ctrl-C."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from nexus_client import OutOfMemory
from PIL import Image

from tests.client.support.fakes import NOTICES, Nexus

FILL = ("generative-fill", "photo.png", "mask.png", "a bench", "-o", "out.png")


def test_the_result_and_its_notices(nexus: Nexus) -> None:
    result = nexus(*FILL, "--seed", "7")
    assert result.exit_code == 0
    assert re.fullmatch(r"out\.png  40x30  \d+ ms  sdxl  seed 7\n", result.stdout)
    steps = [f"nexus: step {step} of 4" for step in range(1, 5)]
    assert result.stderr.splitlines() == [*steps, *(f"nexus: {notice}" for notice in NOTICES)]
    assert Image.open("out.png").getpixel((0, 0)) == (10, 20, 30)
    assert nexus.mock.cancelled == []


def test_absent_options_are_not_sent(nexus: Nexus) -> None:
    assert nexus(*FILL).exit_code == 0
    inputs = nexus.mock.calls[0].inputs
    assert set(inputs) == {"image", "mask", "prompt", "progress", "preview_every"}
    assert inputs["image"].item() == Path("photo.png").read_bytes()
    assert inputs["mask"].item() == Path("mask.png").read_bytes()
    assert inputs["prompt"].item() == b"a bench"
    assert inputs["preview_every"].item() == 0


def test_every_option_is_sent(nexus: Nexus) -> None:
    result = nexus(
        *FILL, "--negative-prompt", "blurry", "--steps", "3", "--guidance-scale", "5.5", "--strength", "0.5",
        "--seed", "7", "--scheduler", "ddim",
    )  # fmt: skip
    assert result.exit_code == 0
    sent = {name: array.item() for name, array in nexus.mock.calls[0].inputs.items()}
    assert sent["negative_prompt"] == b"blurry"
    assert sent["scheduler"] == b"ddim"
    assert [sent[name] for name in ("steps", "guidance_scale", "strength", "seed")] == [3, 5.5, 0.5, 7]


def test_a_log_gets_ten_lines_however_many_the_steps(nexus: Nexus) -> None:
    lines = [line for line in nexus(*FILL, "--steps", "25").stderr.splitlines() if "step" in line]
    assert lines == [f"nexus: step {step} of 25" for step in (3, 5, 8, 10, 13, 15, 18, 20, 23, 25)]


def test_a_terminal_gets_a_bar(nexus: Nexus) -> None:
    result = nexus(*FILL, env={"TTY_COMPATIBLE": "1"})
    assert result.exit_code == 0
    assert "━" in result.stderr
    assert "nexus: step" not in result.stderr
    assert "━" not in result.stdout
    assert f"nexus: {NOTICES[0]}" in result.stderr


@pytest.mark.parametrize(("options", "steps"), [([], [5, 10]), (["--preview-every", "4"], [4, 8, 12])])
def test_previews(nexus: Nexus, options: list[str], steps: list[int]) -> None:
    result = nexus(*FILL, "--steps", "12", "--previews", "made/steps", *options)
    assert result.exit_code == 0
    written = sorted(Path("made/steps").iterdir())
    assert [path.name for path in written] == [f"step_{step:04}.jpg" for step in steps]
    preview = Image.open(written[0])
    assert (preview.format, preview.size) == ("JPEG", (40, 30))


def test_previews_that_cannot_be_written_are_refused_before_the_call(
    nexus: Nexus, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = nexus(*FILL, "--previews", "photo.png")
    assert result.exit_code == 2
    assert result.stderr == "nexus: the folder 'photo.png' cannot be made: File exists\n"

    result = nexus(*FILL, "--preview-every", "2")
    assert result.exit_code == 2
    assert result.stderr == "nexus: --preview-every needs a folder for the previews: add --previews DIR\n"

    # Patched, since root may write everywhere.
    monkeypatch.setattr("os.access", lambda path, _: Path(path).name != "steps")
    result = nexus(*FILL, "--previews", "steps")
    assert result.exit_code == 2
    assert result.stderr == "nexus: the folder 'steps' is write-protected\n"
    assert nexus.mock.calls == []


def test_ctrl_c_cancels_the_call(nexus: Nexus, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object, step: int, total: int) -> None:
        if (step, total) == (2, 4):
            raise KeyboardInterrupt

    monkeypatch.setattr("nexus_client.cli._generative_fill.StepDisplay.show", interrupted)
    result = nexus(*FILL)
    assert result.exit_code == 130
    assert result.stderr == "nexus: interrupted; the call is cancelled\n"
    assert nexus.mock.cancelled == [2]
    assert nexus.files() == set()


def test_a_full_disk_cancels_the_call(nexus: Nexus, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nexus_client.cli._generative_fill.OutputFile.save", full)
    result = nexus(*FILL, "--previews", "steps", "--preview-every", "1")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "nexus: the output cannot be written: No space left on device"
    assert nexus.mock.cancelled == [1]


def test_out_of_memory_is_unavailable_at_once(nexus: Nexus) -> None:
    nexus.mock.break_after = (1, OutOfMemory("out of memory: both tiers."))
    result = nexus(*FILL)
    assert result.exit_code == 3
    assert result.stderr.splitlines()[-1] == "nexus: out of memory: both tiers."
    assert len(nexus.mock.calls) == 1


def test_a_stream_that_ends_before_its_result_is_an_outage(nexus: Nexus) -> None:
    nexus.mock.break_after = (2, None)
    result = nexus(*FILL)
    assert result.exit_code == 3
    assert result.stderr.splitlines()[-1].endswith(": the server ended the stream before its result")
    assert nexus.files() == set()
