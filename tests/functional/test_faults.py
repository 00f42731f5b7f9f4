"""Every stub, and tritonserver itself, is replaced when it is killed or hangs, and a client that retries completes."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from nexus_client import Client, GenerativeFill, NexusError
from nexus_server.local import LocalServer
from nexus_server.process import is_alive

from tests.functional.support.deployment import MODELS, PHOTOS, ROOT, processes, subset
from tests.functional.support.fills import PHOTO, PROMPT, SIZE, hole

RECOVERY_S = 60.0
NETWORKS = ["sam_encoder", "sam_decoder", "lama", "u2net"]
PIPELINES = ["segment", "cleanup", "smart_remove", "remove_background"]
FILL = ["sdxl_text_encoder", "sdxl_vae_encoder", "sdxl_unet", "sdxl_vae_decoder", "generative_fill"]


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A server of this module's own, since no other test must see it die; one for each parameter.

    The restart delay doubles with every restart: up to four deaths for each server cost no wait.
    """
    models = subset(tmp_path_factory.mktemp(request.param) / "models", *NETWORKS, *PIPELINES)
    with LocalServer(models, ROOT / f"build/fault-{request.param}-server.log") as running:
        yield running


@pytest.fixture(scope="module")
def fill_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """The same for generative fill."""
    models = subset(tmp_path_factory.mktemp("fill") / "models", *FILL)
    with LocalServer(models, ROOT / "build/fault-fill-server.log") as running:
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


# Two decorators each, because with one pytest would start a server for every victim.
@pytest.mark.parametrize("victim", NETWORKS)
@pytest.mark.parametrize("server", ["networks"], indirect=True)
def test_a_killed_network_is_replaced_and_a_client_completes(server: LocalServer, victim: str) -> None:
    kill_and_complete(server, victim)


@pytest.mark.parametrize("victim", PIPELINES)
@pytest.mark.parametrize("server", ["pipelines"], indirect=True)
def test_a_killed_pipeline_is_replaced_and_a_client_completes(server: LocalServer, victim: str) -> None:
    kill_and_complete(server, victim)


@pytest.mark.parametrize("server", ["hung"], indirect=True)
def test_a_killed_tritonserver_is_replaced_and_a_client_completes(server: LocalServer) -> None:
    kill_and_complete(server, "tritonserver")


def kill_and_complete(server: LocalServer, victim: str) -> None:
    """SIGKILL, then one call that needs the victim: it completes within the 60 s that recovery may take."""
    process = find(server, victim)
    log = server.log.read_text()
    os.kill(process.pid, signal.SIGKILL)
    with Client(server.url, timeout=RECOVERY_S) as client:
        if victim in ("u2net", "remove_background"):
            assert client.remove_background(PHOTOS / "chelsea.jpg").size == (451, 300)
        else:
            removal = client.smart_remove(PHOTOS / "rocket.jpg", box=(308, 108, 356, 376))
            assert removal.mask.any()
            assert client.segment(PHOTOS / "rocket.jpg", box=(308, 108, 356, 376)).mask.any()
            assert client.cleanup(PHOTOS / "rocket.jpg", removal.mask).size == (640, 427)
    assert find(server, victim).pid != process.pid
    news = server.log.read_text()[len(log) :]
    reason = "tritonserver exited" if victim == "tritonserver" else f"the process of {victim} died"
    assert news.count("restarting:") == news.count(f"restarting: {reason}") == 1


@pytest.mark.parametrize("victim", ["sdxl_unet", "generative_fill"])
def test_a_killed_process_of_a_fill_is_replaced(fill_server: LocalServer, victim: str) -> None:
    """Also during a fill: the client sends it again, except for a stream that has yielded a step."""
    process = find(fill_server, victim)
    with Client(fill_server.url, timeout=RECOVERY_S) as client, ThreadPoolExecutor(1) as pool:
        stream = client.generative_fill_stream(PHOTO, hole(*SIZE), PROMPT, steps=150, strength=1.0)
        whole = pool.submit(
            client.generative_fill, PHOTO, hole(*SIZE), PROMPT, steps=10, strength=1.0, timeout=RECOVERY_S
        )
        next(stream)
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(NexusError):
            list(stream)
        assert whole.result().image.size == SIZE
    assert find(fill_server, victim).pid != process.pid


@pytest.mark.parametrize("victim", ["remove_background", "sam_encoder", "lama"])
@pytest.mark.parametrize("server", ["hung"], indirect=True)
def test_a_hung_process_is_replaced(server: LocalServer, victim: str) -> None:
    """To Triton a stopped stub is alive and ready, and the model's cache may answer in its place."""
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
    assert not is_alive(process)


def test_a_deadlock_is_noticed_by_inference(tmp_path: Path) -> None:
    """A deadlocked pipeline is alive to the kernel and ready to Triton, but idle, and answers no probe."""
    for model in ("u2net", "remove_background"):
        shutil.copytree(MODELS / model, tmp_path / "models" / model)
    with (tmp_path / "models/remove_background/1/model.py").open("a") as code:
        code.write("\n    def execute(self, requests):\n        __import__('threading').Event().wait()\n")
    with LocalServer(tmp_path / "models", tmp_path / "server.log") as server:
        deadline = time.monotonic() + RECOVERY_S
        while "restarting: remove_background has neither answered nor worked" not in server.log.read_text():
            assert time.monotonic() < deadline, "the deadlock was not noticed"
            time.sleep(0.5)


def test_a_stopped_server_finishes_its_fills_and_leaves_nothing(tmp_path: Path) -> None:
    """After SIGTERM a fill in progress still gets its networks; then all processes and their shared memory are gone."""
    with LocalServer(subset(tmp_path / "models", *FILL), ROOT / "build/stop-server.log") as server:
        below = processes(server)[1:]
        regions = set(Path("/dev/shm").glob(f"nexus_{server.process.pid}_*"))
        assert regions
        with Client(server.url) as client:
            stream = client.generative_fill_stream(PHOTO, hole(*SIZE), PROMPT, steps=20, strength=1.0)
            next(stream)
            server.process.send_signal(signal.SIGTERM)
            *steps, last = stream
        assert len(steps) == 19
        assert isinstance(last, GenerativeFill)
    assert server.process.returncode == 0
    assert below
    assert not any(map(is_alive, below))
    assert not any(region.exists() for region in regions)
