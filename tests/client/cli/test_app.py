"""The `nexus` command with the transport mocked: its requests, files, output and exit codes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from nexus_client import (
    PIPELINES,
    Cancelled,
    DeadlineExceeded,
    InvalidInput,
    NotDeployed,
    ServerError,
    Unavailable,
)
from PIL import Image

from tests.client.support.fakes import Nexus


def test_segment(nexus: Nexus) -> None:
    result = nexus(
        "segment", "photo.png", "--point", "1,2", "--negative", "3,4.5", "--point", "5,6",
        "--box", "0,1,20,10", "--min-area", "0", "--model", "sam2", "-o", "m.png",
    )  # fmt: skip
    assert result.exit_code == 0
    assert re.fullmatch(r"m\.png  40x30  \d+ ms  score 0\.875\n", result.stdout)
    inputs = nexus.mock.calls[0].inputs
    assert inputs["points"].tolist() == [[[1, 2], [5, 6], [3, 4.5]]]
    assert inputs["labels"].tolist() == [[1, 1, 0]]
    assert inputs["box"].tolist() == [[0, 1, 20, 10]]
    assert inputs["min_area"].tolist() == [[0]]
    assert inputs["model"].item() == b"sam2"
    assert inputs["image"].item() == Path("photo.png").read_bytes()
    mask = Image.open("m.png")
    assert (mask.mode, mask.size) == ("L", (40, 30))
    assert np.unique(np.asarray(mask)).tolist() == [0, 255]


def test_cleanup(nexus: Nexus) -> None:
    result = nexus("cleanup", "photo.png", "mask.png", "-o", "out.jpg", "--dilate", "0")
    assert result.exit_code == 0
    assert re.fullmatch(r"out\.jpg  40x30  \d+ ms\n", result.stdout)
    assert nexus.mock.calls[0].inputs["dilate"].tolist() == [[0]]
    assert Image.open("out.jpg").format == "JPEG"


def test_smart_remove(nexus: Nexus) -> None:
    result = nexus(
        "smart-remove", "photo.png", "--box", "1,2,3,4", "-o", "out.webp", "--mask-output", "m.png"
    )
    assert result.exit_code == 0
    assert re.fullmatch(r"out\.webp  40x30  \d+ ms  score 0\.875\n", result.stdout)
    assert Image.open("out.webp").format == "WEBP"
    assert Image.open("m.png").mode == "L"


def test_smart_remove_with_a_rough_mask(nexus: Nexus) -> None:
    result = nexus("smart-remove", "photo.png", "--rough-mask", "mask.png", "--dilate", "9", "-o", "out.png")
    assert result.exit_code == 0
    inputs = nexus.mock.calls[0].inputs
    assert inputs["rough_mask"].item() == Path("mask.png").read_bytes()
    assert inputs["dilate"].tolist() == [[9]]
    assert inputs["model"].item() == b""
    assert nexus.files() == {"out.png"}


@pytest.mark.parametrize(("background", "mode"), [("transparent", "RGBA"), ("navy", "RGB")])
def test_remove_background(nexus: Nexus, background: str, mode: str) -> None:
    assert nexus("remove-background", "photo.png", "--background", background, "-o", "out.png").exit_code == 0
    assert Image.open("out.png").mode == mode
    assert nexus.mock.calls[-1].inputs["model"].item() == b""


def test_remove_background_by_another_model(nexus: Nexus) -> None:
    assert nexus("remove-background", "photo.png", "--model", "isnet", "-o", "out.png").exit_code == 0
    assert nexus.mock.calls[-1].inputs["model"].item() == b"isnet"


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (InvalidInput("the mask is empty"), 2, "the mask is empty"),
        (NotDeployed("no such model"), 5, "localhost:8001 does not serve 'segment': deploy that pipeline"),
        (DeadlineExceeded("slow"), 4, "no answer to 'segment' within 60 s"),
        (ServerError("the server failed: x (INTERNAL)"), 1, "the server failed: x (INTERNAL)"),
        (Cancelled("the call was cancelled"), 1, "the call was cancelled"),
        (KeyboardInterrupt(), 130, "interrupted; the call is cancelled"),
    ],
)
def test_exit_codes(nexus: Nexus, error: BaseException, code: int, sentence: str) -> None:
    nexus.mock.models.clear()
    nexus.mock.faults = [error]
    result = nexus("segment", "photo.png", "--point", "1,2", "-o", "out.png")
    assert result.exit_code == code
    assert result.stderr == f"nexus: {sentence}\n"
    assert result.stdout == ""
    assert nexus.files() == set()


def test_an_outage_is_printed_once_and_at_the_end(nexus: Nexus) -> None:
    nexus.mock.faults = [Unavailable("connection refused")] * 100
    result = nexus("segment", "photo.png", "--point", "1,2", "-o", "out.png", "--timeout", "0.3")
    assert result.exit_code == 3
    waiting, failed = result.stderr.splitlines()
    assert waiting == "nexus: localhost:8001: connection refused; trying for 0 s more"
    assert re.fullmatch(
        r"nexus: localhost:8001 is unavailable \(\d+ tries in 0\.[23] s\): connection refused", failed
    )


def test_a_missing_image_is_one_line(nexus: Nexus) -> None:
    result = nexus("segment", "absent.png", "--point", "1,2", "-o", "out.png")
    assert result.exit_code == 2
    assert result.stderr == "nexus: image file 'absent.png' does not exist\n"


def test_status(nexus: Nexus) -> None:
    nexus.mock.models.remove("cleanup")
    result = nexus("status")
    assert result.exit_code == 0
    rows = [re.findall(r"[\w ]*\w", line) for line in result.stdout.splitlines()]
    states = {row[0].strip(): row[1].strip() for row in rows if len(row) == 2}
    assert states["server"] == states["segment"] == "ready"
    assert states["cleanup"] == "not served"
    assert "Triton 2.51.0" in result.stdout


def test_status_of_a_server_that_is_not_ready(nexus: Nexus) -> None:
    nexus.mock.is_ready = False
    result = nexus("status")
    assert result.exit_code == 3
    assert "live, not ready" in result.stdout


def test_status_of_no_server_leaves_its_pipelines_unknown(
    nexus: Nexus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def live(_: float) -> bool:
        raise Unavailable("connection refused")

    monkeypatch.setattr(nexus.mock, "live", live)
    result = nexus("status")
    assert result.exit_code == 3
    assert result.stdout.startswith("localhost:8001  no answer\n")
    assert "not live" in result.stdout
    assert result.stdout.count("unknown") == len(PIPELINES)
    assert "served" not in result.stdout


@pytest.mark.parametrize(
    ("before", "after", "env", "url"),
    [
        ([], [], {}, "localhost:8001"),
        ([], [], {"NEXUS_URL": "env:1"}, "env:1"),
        (["--url", "before:2"], [], {"NEXUS_URL": "env:1"}, "before:2"),
        (["--url", "before:2"], ["--url", "after:3"], {"NEXUS_URL": "env:1"}, "after:3"),
    ],
)
def test_the_address_is_the_nearest_one(
    nexus: Nexus, before: list[str], after: list[str], env: dict[str, str], url: str
) -> None:
    assert nexus(*before, "status", *after, env=env).exit_code == 0
    assert nexus.urls == [url]


def test_the_timeout_stands_before_or_after(nexus: Nexus) -> None:
    nexus("--timeout", "7", "cleanup", "photo.png", "mask.png", "-o", "out.png")
    nexus("--timeout", "7", "cleanup", "photo.png", "mask.png", "-o", "out.png", "--timeout", "3")
    # Reading two tiny files takes from the budget; a tenth of a second is a hundred times what it needs.
    assert [call.timeout for call in nexus.mock.calls] == pytest.approx([7, 3], abs=0.1)


@pytest.mark.parametrize(
    "args",
    [
        ["segment", "photo.png"],
        ["segment", "photo.png", "-o", "out.png", "--point", "1"],
        ["segment", "photo.png", "-o", "out.png", "--point", "a,b"],
        ["segment", "photo.png", "-o", "out.png", "--box", "1,2,3"],
        ["cleanup", "photo.png", "mask.png", "-o", "out.png", "--dilate", "-1"],
        ["cleanup", "photo.png", "mask.png", "-o", "out.png", "--timeout", "0"],
        ["unknown"],
    ],
)
def test_wrong_usage(nexus: Nexus, args: list[str]) -> None:
    result = nexus(*args)
    assert result.exit_code == 2
    assert result.stderr
    assert nexus.mock.calls == []


@pytest.mark.parametrize(
    "command",
    [[], ["segment"], ["cleanup"], ["smart-remove"], ["remove-background"], ["generative-fill"], ["status"]],
)
def test_help_names_the_exit_codes(nexus: Nexus, command: list[str]) -> None:
    result = nexus(*command, "--help")
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    for part in ("0 done", "2 invalid input", "3 server unavailable", "4 slower", "5 operation not deployed"):
        assert part in text
    assert "130 interrupted" in text
