"""Generative fill as users call it: the client and the command on the real server."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nexus_client import AsyncClient, Client, DeadlineExceeded, FillProgress, GenerativeFill, InvalidInput
from nexus_server.local import LocalServer
from PIL import Image

from tests.functional.support.fills import PHOTO, PROMPT, SLOW_STEP_S, Meter

MANY_STEPS = 30  # far more than any test here lets a fill take


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """White over the cup."""
    width, height = Image.open(PHOTO).size
    pixels = np.zeros((height, width), np.uint8)
    pixels[height // 3 : height // 2, width // 3 : width // 2] = 255
    path = tmp_path / "mask.png"
    Image.fromarray(pixels).save(path)
    return path


def test_the_stream_and_the_result(client: Client, mask: Path) -> None:
    options: dict[str, Any] = {
        "steps": 10,
        "strength": 0.5,
        "guidance_scale": 2.0,
        "seed": 2**40,
        "scheduler": "ddim",
    }
    *progress, fill = client.generative_fill_stream(PHOTO, mask, PROMPT, preview_every=2, **options)
    steps = [event for event in progress if isinstance(event, FillProgress)]
    assert [(event.step, event.total) for event in steps] == [(step, 5) for step in range(1, 6)]
    assert [event.step for event in steps if event.preview is not None] == [2, 4]
    assert isinstance(fill, GenerativeFill)
    assert (fill.image.mode, fill.image.size) == ("RGB", Image.open(PHOTO).size)
    assert (fill.seed, fill.model) == (2**40, "sdxl")
    assert set(fill.timings) == {"text", "vae_encode", "denoise", "vae_decode", "total"}
    assert fill.notices == ()

    whole = client.generative_fill(PHOTO, mask, PROMPT, **options)
    np.testing.assert_array_equal(np.asarray(whole.image), np.asarray(fill.image))
    photo, hole = np.asarray(Image.open(PHOTO)), np.asarray(Image.open(mask)) > 127
    np.testing.assert_array_equal(np.asarray(whole.image)[~hole], photo[~hole])
    assert (np.asarray(whole.image)[hole] != photo[hole]).any()


def test_a_refusal_has_the_server_s_own_sentence(client: Client, mask: Path) -> None:
    with pytest.raises(InvalidInput, match=r"^steps is 151; it must lie between 1 and 150\.$"):
        client.generative_fill(PHOTO, mask, PROMPT, steps=151)
    with pytest.raises(InvalidInput):
        list(client.generative_fill_stream(PHOTO, mask, "naked people"))


def test_leaving_the_loop_ends_the_fill(slow: Client, mask: Path, meter: Meter) -> None:
    events = slow.generative_fill_stream(PHOTO, mask, PROMPT, steps=MANY_STEPS, strength=1.0)
    with closing(events):
        for event in events:
            if isinstance(event, FillProgress) and event.step == 5:
                break
    assert meter.calls_from_now() <= 1
    assert 5 <= meter.work().calls < MANY_STEPS


def test_cancelling_a_task_ends_the_fill(slow_server: LocalServer, mask: Path, meter: Meter) -> None:
    async def main() -> None:
        async with AsyncClient(slow_server.url) as client:
            call = client.generative_fill(PHOTO, mask, PROMPT, steps=MANY_STEPS, strength=1.0)
            task = asyncio.create_task(call)
            while not await asyncio.to_thread(lambda: meter.work().calls):
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert meter.calls_from_now() <= 1
    assert meter.work().calls < MANY_STEPS


def test_the_deadline_ends_the_fill(slow: Client, mask: Path, meter: Meter) -> None:
    timeout = 4.5 * SLOW_STEP_S
    events = slow.generative_fill_stream(PHOTO, mask, PROMPT, steps=MANY_STEPS, strength=1.0, timeout=timeout)
    with pytest.raises(DeadlineExceeded, match=rf"'generative_fill'.* within {timeout:.3g} s"):
        list(events)
    assert meter.calls_from_now() <= 1
    assert meter.work().calls < MANY_STEPS


def test_one_client_streams_to_several_threads(client: Client, mask: Path) -> None:
    def read(seed: int) -> GenerativeFill:
        *_, fill = client.generative_fill_stream(PHOTO, mask, PROMPT, steps=8, strength=1.0, seed=seed)
        assert isinstance(fill, GenerativeFill)
        return fill

    with ThreadPoolExecutor(4) as threads:
        assert [fill.seed for fill in threads.map(read, range(4))] == [0, 1, 2, 3]


def command(server: LocalServer, mask: Path, *options: str) -> list[str]:
    nexus = str(Path(sys.prefix) / "bin/nexus")
    fill = ["generative-fill", str(PHOTO), str(mask), PROMPT, "-o", "out.png", "--strength", "1"]
    return [nexus, *fill, "--url", server.url, *options]


def test_the_command(server: LocalServer, mask: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        command(server, mask, "--steps", "8", "--previews", "steps", "--preview-every", "4", "--seed", "7"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    width, height = Image.open(PHOTO).size
    assert re.fullmatch(rf"out\.png  {width}x{height}  \d+ ms  sdxl  seed 7\n", done.stdout)
    lines = [f"nexus: step {step} of 8" for step in range(1, 9)]
    assert done.stderr.splitlines() == lines
    assert Image.open(tmp_path / "out.png").size == (width, height)
    previews = sorted((tmp_path / "steps").iterdir())
    assert [path.name for path in previews] == ["step_0004.jpg", "step_0008.jpg"]
    for path in previews:
        with Image.open(path) as preview:
            assert preview.format == "JPEG"
            # As the photo, except for rounding of the shorter side.
            assert preview.width / preview.height == pytest.approx(width / height, rel=0.01)


def test_ctrl_c_ends_the_fill(slow_server: LocalServer, mask: Path, tmp_path: Path, meter: Meter) -> None:
    process = subprocess.Popen(
        command(slow_server, mask, "--steps", str(MANY_STEPS)),
        cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    first = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    *_, last = process.stderr.readlines()
    assert process.wait() == 130
    step = MANY_STEPS // 10  # a log gets ten lines
    assert first == f"nexus: step {step} of {MANY_STEPS}\n"
    assert last == "nexus: interrupted; the call is cancelled\n"
    assert meter.calls_from_now() <= 1
    assert step <= meter.work().calls < MANY_STEPS
    assert {path.name for path in tmp_path.iterdir()} == {"mask.png"}


def test_status_lists_it(client: Client) -> None:
    assert client.status().pipelines["generative_fill"]
