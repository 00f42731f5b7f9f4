"""What is killed or hangs comes back: every stub, and tritonserver itself, under a client that retries."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from nexus_client import Client
from nexus_server.local import LocalServer

from tests.functional.fills import PHOTO, PROMPT, SIZE, hole
from tests.functional.helpers import MODELS, PHOTOS, ROOT, processes

RECOVERY_S = 60.0
VICTIMS = [
    *("sam_encoder", "sam_decoder", "lama", "u2net"),
    *("segment", "cleanup", "smart_remove", "remove_background"),
    *("sdxl_unet", "generative_fill"),
    "tritonserver",
]


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    """A server of this module's own: the others must not see it die."""
    with LocalServer(MODELS, ROOT / "build/fault-server.log") as running:
        yield running


def find(server: LocalServer, victim: str) -> psutil.Process:
    for process in processes(server):
        command = process.cmdline()
        is_stub = "triton_python_backend_stub" in command[0]
        if victim == "tritonserver" and command[0].endswith("bin/tritonserver"):
            return process
        if is_stub and f"/{victim}/" in command[1]:
            return process
    raise AssertionError(f"no process of {victim}")


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_killed_process_is_replaced_and_a_client_completes(server: LocalServer, victim: str) -> None:
    """SIGKILL, then one call that needs the victim: it completes within the 60 s that recovery may take."""
    process = find(server, victim)
    log = server.log.read_text()
    os.kill(process.pid, signal.SIGKILL)
    with Client(server.url, timeout=RECOVERY_S) as client:
        if victim in ("u2net", "remove_background"):
            assert client.remove_background(PHOTOS / "chelsea.jpg").size == (451, 300)
        elif victim in ("sdxl_unet", "generative_fill"):
            assert (
                client.generative_fill(PHOTO, hole(*SIZE), PROMPT, steps=2, strength=1.0).image.size == SIZE
            )
        else:
            removal = client.smart_remove(PHOTOS / "rocket.jpg", box=(308, 108, 356, 376))
            assert removal.mask.any()
            assert client.segment(PHOTOS / "rocket.jpg", box=(308, 108, 356, 376)).mask.any()
            assert client.cleanup(PHOTOS / "rocket.jpg", removal.mask).size == (640, 427)
    assert find(server, victim).pid != process.pid
    news = server.log.read_text()[len(log) :]
    reason = "tritonserver exited" if victim == "tritonserver" else f"the process of {victim} died"
    assert news.count("restarting:") == news.count(f"restarting: {reason}") == 1


@pytest.mark.parametrize("victim", ["remove_background", "sam_encoder", "lama"])
def test_a_hung_process_is_replaced(server: LocalServer, victim: str) -> None:
    """A stopped stub is alive and ready to Triton, and its model may have a cache that answers in its place."""
    process = find(server, victim)
    log = server.log.read_text()
    process.suspend()
    deadline = time.monotonic() + RECOVERY_S
    while f"restarting: the process of {victim} is stopped" not in server.log.read_text()[len(log) :]:
        assert time.monotonic() < deadline, "the hung process was not noticed"
        time.sleep(0.1)
    with Client(server.url, timeout=RECOVERY_S) as client:
        if victim == "remove_background":
            assert client.remove_background(PHOTOS / "chelsea.jpg").size == (451, 300)
        else:
            removal = client.smart_remove(PHOTOS / "rocket.jpg", box=(308, 108, 356, 376))
            assert removal.mask.any()
    assert find(server, victim).pid != process.pid
    assert not process.is_running()


def test_a_deadlock_is_noticed_by_inference(tmp_path: Path) -> None:
    """A pipeline that waits for nothing is alive to the kernel and ready to Triton, but idle, and answers no probe."""
    for model in ("u2net", "remove_background"):
        shutil.copytree(MODELS / model, tmp_path / "models" / model)
    with (tmp_path / "models/remove_background/1/model.py").open("a") as code:
        code.write("\n    def execute(self, requests):\n        __import__('threading').Event().wait()\n")
    with LocalServer(tmp_path / "models", tmp_path / "server.log") as server:
        deadline = time.monotonic() + RECOVERY_S
        while "restarting: remove_background has neither answered nor worked" not in server.log.read_text():
            assert time.monotonic() < deadline, "the deadlock was not noticed"
            time.sleep(0.5)


def test_a_stopped_server_leaves_nothing() -> None:
    """SIGTERM ends every process below, and their shared memory is gone."""
    with LocalServer(MODELS, ROOT / "build/stop-server.log") as server:
        below = processes(server)[1:]
        regions = set(Path("/dev/shm").glob(f"nexus_{server.process.pid}_*"))
        assert regions
    assert server.process.returncode == 0
    assert not any(process.is_running() for process in below)
    assert not any(region.exists() for region in regions)
