"""A tritonserver that dies at any step is restarted. Here it is a shell script, and its client a fake."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from nexus_server import supervisor
from nexus_server.errors import ServerError
from nexus_server.installation import Installation
from nexus_server.process import descendants
from nexus_server.repository import Repository
from nexus_server.supervisor import Supervisor
from nexus_server.tritonserver import Settings
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.utils import InferenceServerException

GONE: Exception = InferenceServerException("failed to connect", "StatusCode.UNAVAILABLE")


class Client:
    """A client of a server that calls `steps[run](step)` at each step; a run without an entry gets SIGTERM."""

    runs = 0
    steps: dict[int, Callable[[str], Any]]
    broken: set[str]
    probed: list[str]

    def __init__(self, _: str, **__: Any) -> None:
        self.run = Client.runs
        Client.runs += 1

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def step(self, name: str) -> bool:
        if self.run not in self.steps:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0)  # the loop runs the handler
            return True
        outcome = self.steps[self.run](name)
        if name != "is_server_ready":
            await asyncio.sleep(0.1)  # the event loop notices the death
        if isinstance(outcome, Exception):
            raise outcome
        return outcome is None

    async def is_server_ready(self, **_: Any) -> bool:
        return await self.step("is_server_ready")

    async def is_model_ready(self, name: str, **_: Any) -> bool:
        return await self.step("is_model_ready") and name not in Client.broken

    async def get_inference_statistics(self, *_: Any, **__: Any) -> Any:
        await self.step("get_inference_statistics")
        success = SimpleNamespace(count=0)
        return SimpleNamespace(
            model_stats=[SimpleNamespace(inference_stats=SimpleNamespace(success=success))]
        )

    async def infer(self, name: str, *_: Any) -> None:
        Client.probed.append(name)
        await self.step("infer")


def servers() -> list[psutil.Process]:
    return descendants(os.getpid())


def end_server() -> None:
    """SIGKILL the server and reap it, so that the process no longer exists."""
    for process in servers():
        process.kill()
        process.wait()


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., float]:
    """Run a supervisor whose servers behave by `steps`; returns the seconds it took."""
    binary = tmp_path / "tritonserver"
    monkeypatch.setattr(supervisor, "POLL_INTERVAL_S", 0.02)
    monkeypatch.setattr(supervisor, "FIRST_RESTART_DELAY_S", 0.05)

    def run(
        steps: dict[int, Callable[[str], Any]],
        script: str = "exec sleep 600",
        broken: str = "",
        start_timeout_s: float = 300.0,
    ) -> float:
        binary.write_text(f"#!/bin/sh\n{script}\n")
        binary.chmod(0o755)
        Client.runs, Client.steps, Client.broken, Client.probed = 0, steps, {broken}, []
        monkeypatch.setattr("tritonclient.grpc.aio.InferenceServerClient", Client)
        installation = Installation(binary, tmp_path, tmp_path, embedded=True)
        repository = Repository(
            tmp_path, {name: ModelConfig(name=name) for name in ("lama", "u2net")}, {}, {}, {}
        )
        settings = Settings("127.0.0.1", 1, 2, 3, 4, start_timeout_s)

        async def main() -> float:
            loop = asyncio.get_running_loop()
            started = loop.time()
            await Supervisor(installation, tmp_path / "models", repository, settings).run()
            return loop.time() - started

        try:
            return asyncio.run(main())
        finally:
            assert servers() == []

    return run


Serve = Callable[..., float]


def dying_at(step: str, outcome: Exception | None) -> Callable[[str], Exception | None]:
    """A server that serves well until its client comes to `step`."""

    def act(name: str) -> Exception | None:
        if name == step:
            end_server()
            return outcome
        return None

    return act


@pytest.mark.parametrize(
    ("step", "outcome"),
    [
        ("is_server_ready", GONE),  # before it was ready
        ("is_server_ready", None),  # after it was
        ("is_model_ready", GONE),
        ("get_inference_statistics", GONE),
        ("infer", GONE),
        ("infer", ValueError("not what a client expects")),
    ],
)
def test_a_server_that_dies_at_a_step_is_restarted(
    step: str, outcome: Exception | None, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    serve({0: dying_at(step, outcome)})
    assert Client.runs == 2
    assert capsys.readouterr().out.count("nexus-server: restarting: ") == 1


def test_a_probe_that_goes_wrong_ends_the_run(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    def act(name: str) -> Exception | None:
        return ValueError("no number") if name == "get_inference_statistics" else None

    serve({0: act})
    assert Client.runs == 2
    assert "restarting: ValueError: no number\n" in capsys.readouterr().out


def test_a_server_that_exits_before_it_is_ready_is_given_up(serve: Serve) -> None:
    with pytest.raises(ServerError) as caught:
        serve(dict.fromkeys(range(9), lambda _: GONE), "exit 3")
    assert str(caught.value) == (
        "tritonserver does not start (tritonserver exited with status 3); its messages above say why."
    )
    assert Client.runs == supervisor.MAX_FAILED_STARTS


def test_a_server_without_any_model_is_given_up(serve: Serve) -> None:
    with pytest.raises(ServerError, match=r"^tritonserver does not start \(no model could be loaded\); "):
        serve(dict.fromkeys(range(3), lambda name: None if name == "is_server_ready" else False))


def test_what_did_not_load_is_dropped_from_the_next_run(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    serve({0: lambda _: None, 1: dying_at("infer", GONE)}, broken="lama")
    assert Client.runs == 3
    assert set(Client.probed) == {"u2net"}
    assert [
        line for line in capsys.readouterr().out.splitlines() if "lama" in line or " at grpc " in line
    ] == [
        "nexus-server: not serving lama: it did not load; the server's messages above say why",
        *2 * ["nexus-server: serving u2net at grpc 127.0.0.1:1, http 127.0.0.1:2, metrics 127.0.0.1:3"],
    ]


def test_what_did_not_load_once_the_server_has_served_is_reported(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next start may load it: it did before."""

    def act(step: str) -> None:
        Client.broken = {"lama"}
        if step == "infer":  # it serves, and nothing else would end this run
            os.kill(os.getpid(), signal.SIGTERM)

    serve({0: dying_at("infer", GONE), 1: act})
    assert Client.runs == 2
    logged = capsys.readouterr().out
    assert "nexus-server: lama did not load; the server's messages above say why\n" in logged
    assert "not serving" not in logged


def test_a_server_that_served_once_is_never_given_up(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "MAX_RESTART_DELAY_S", 0.1)
    bad = range(1, 3 + supervisor.MAX_FAILED_STARTS)
    serve({0: dying_at("infer", GONE)} | dict.fromkeys(bad, dying_at("is_server_ready", GONE)))
    assert Client.runs == 2 + len(bad)


def test_the_restart_delay_doubles(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_RESTART_DELAY_S", 0.2)
    monkeypatch.setattr(supervisor, "MAX_RESTART_DELAY_S", 0.8)
    dying = dying_at("is_model_ready", GONE)
    monkeypatch.setattr(supervisor, "MAX_FAILED_STARTS", 9)
    assert serve(dict.fromkeys(range(4), dying)) >= 0.2 + 0.4 + 0.8 + 0.8


def test_a_long_run_makes_the_next_restart_prompt(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_RESTART_DELAY_S", 20.0)
    monkeypatch.setattr(supervisor, "MAX_RESTART_DELAY_S", 40.0)
    monkeypatch.setattr(supervisor, "LONG_RUN_S", 0.0)
    pauses: list[float] = []

    async def sleep(_: Supervisor, seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(min(seconds, 0.02))

    monkeypatch.setattr(Supervisor, "_sleep", sleep)
    serve(dict.fromkeys(range(2), dying_at("is_model_ready", GONE)))
    between = [seconds for seconds in pauses if seconds > 1]
    assert len(between) == 2
    assert max(between) < 20  # the delay less the run; it has not doubled


def test_a_signal_ends_the_restart_delay(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_RESTART_DELAY_S", 600.0)

    def act(_: str) -> Exception:
        end_server()
        asyncio.get_running_loop().call_later(0.3, os.kill, os.getpid(), signal.SIGTERM)
        return GONE

    assert serve({0: act}) < 60
    assert Client.runs == 1


def test_a_failed_start_leaves_no_process(serve: Serve) -> None:
    """The watch does not know its stubs; `serve` checks that none is left."""
    with pytest.raises(ServerError, match=r"^tritonserver does not start \(it did not become ready\)"):
        serve(
            dict.fromkeys(range(3), lambda _: GONE),
            "setsid sleep 600 & exec sleep 600",  # a child that no signal to the server reaches
            start_timeout_s=0.3,
        )
