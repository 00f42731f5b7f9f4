"""What `nexus-server` refuses before it starts a server."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nexus_server import cli, installation
from nexus_server.errors import ServerError
from nexus_server.local import free_ports


class Started(Exception):
    """Raised in place of serving."""


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A repository of one network and an embedded Triton; returns the arguments of every supervisor made."""
    made: list[Any] = []

    class Supervisor:
        def __init__(self, *arguments: Any) -> None:
            made.append(arguments)

        async def run(self) -> None:
            raise Started

    (tmp_path / "lama/1").mkdir(parents=True)
    (tmp_path / "lama/1/model.onnx").touch()
    (tmp_path / "lama/config.pbtxt").write_text('name: "lama"')
    found = installation.Installation(tmp_path / "tritonserver", tmp_path, tmp_path, embedded=True)
    monkeypatch.setattr(installation, "find", lambda _: found)
    monkeypatch.setattr(cli, "Supervisor", Supervisor)
    monkeypatch.chdir(tmp_path)
    return made


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    """Restores the handler of SIGTERM."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """The message with which `nexus-server` exits with status 1."""
    monkeypatch.setattr("sys.argv", ["nexus-server", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert isinstance(caught.value.code, str)  # printed to stderr; the status is then 1
    return caught.value.code


def free(*_: Any) -> None:
    """Any port will do."""


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5"])
def test_the_embedded_server_serves_loopback_only(
    host: str, started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, "--models", ".", "--host", host) == (
        "nexus-server: the embedded tritonserver 2.51.0 has known security holes and serves loopback addresses only, "
        f"not {host}; use the vendor's image to serve a network."
    )
    assert started == []


@pytest.mark.parametrize(
    ("given", "host"),
    [([], "127.0.0.1"), (["--host", "localhost"], "127.0.0.1"), (["--host", "127.0.0.9"], "127.0.0.9")],
)
def test_loopback_is_served(
    given: list[str], host: str, started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_check_free", free)
    monkeypatch.setattr("sys.argv", ["nexus-server", "--models", ".", *given])
    with pytest.raises(Started):
        cli.main()
    ((_, _, _, settings),) = started
    assert (settings.host, settings.grpc_port, settings.http_port, settings.metrics_port) == (
        host,
        8001,
        8000,
        8002,
    )
    assert (settings.cache_bytes, settings.start_timeout_s) == (256 * 2**20, 300)


def test_the_vendor_s_server_listens_everywhere(
    tmp_path: Path, started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor = installation.Installation(tmp_path, tmp_path, tmp_path, embedded=False)
    monkeypatch.setattr(installation, "find", lambda _: vendor)
    monkeypatch.setattr(cli, "_check_free", free)
    monkeypatch.setattr("sys.argv", ["nexus-server", "--models", "."])
    with pytest.raises(Started):
        cli.main()
    assert started[0][3].host == "0.0.0.0"


@pytest.mark.parametrize("option", ["--grpc-port", "--http-port", "--metrics-port"])
def test_a_port_in_use(option: str, started: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        options = dict(zip(["--grpc-port", "--http-port", "--metrics-port"], map(str, free_ports(3))))
        options[option] = port
        words = [word for pair in options.items() for word in pair]
        message = run(monkeypatch, "--models", ".", *words)
    assert (
        message
        == f"nexus-server: port {port} of 127.0.0.1 cannot be used (Address already in use); choose another."
    )
    assert started == []


def test_what_is_missing_is_reported_and_the_rest_served(
    tmp_path: Path, started: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "u2net").mkdir()
    (tmp_path / "u2net/config.pbtxt").write_text('name: "u2net"')
    monkeypatch.setattr(cli, "_check_free", free)
    monkeypatch.setattr("sys.argv", ["nexus-server", "--models", "."])
    with pytest.raises(Started):
        cli.main()
    assert (
        capsys.readouterr().out
        == "nexus-server: not serving u2net: not built; run: nexus-export build u2net --out . "
        "(in a checkout: make models MODELS=.)\n"
    )
    assert list(started[0][2].ready) == ["lama"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--host", "::1"], "::1 is not an IPv4 address; 127.0.0.1 serves this machine only"),
        (["--host", "example.org"], "example.org is not an IPv4 address; "),
        (["--host", "127.evil.org"], "127.evil.org is not an IPv4 address; "),
        (["--grpc-port", "0"], "0 is not a port; choose one of 1 to 65535."),
        (["--http-port", "65536"], "65536 is not a port; "),
        (["--metrics-port", "-1"], "-1 is not a port; "),
        (["--metrics-port", "http"], "http is not a port; "),
        (["--start-timeout", "soon"], "soon is not a duration; give seconds, more than 0."),
        (["--start-timeout", "0"], "0 is not a duration; "),
        (["--start-timeout", "inf"], "inf is not a duration; "),
    ],
)
def test_invalid_options_are_refused(
    options: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["nexus-server", *options])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert sentence in capsys.readouterr().err


def test_ports_must_differ(started: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "--models", ".", "--grpc-port", "8000") == (
        "nexus-server: gRPC, HTTP and metrics need a port each; give three different ones."
    )
    assert started == []


def test_a_check_starts_nothing(
    started: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(installation, "check_machine", lambda: None)
    monkeypatch.setattr("sys.argv", ["nexus-server", "--check"])
    cli.main()
    assert capsys.readouterr().out == ""

    def lacking() -> None:
        raise ServerError("this machine lacks a part; install it.")

    monkeypatch.setattr(installation, "check_machine", lacking)
    assert run(monkeypatch, "--check") == "nexus-server: this machine lacks a part; install it."
    assert started == []


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_during_set_up_leaves_nothing_behind(
    signum: int, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(runtime: Path) -> None:
        assert runtime.parent == tmp_path / "scratch"
        os.kill(os.getpid(), signum)
        time.sleep(60)

    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    monkeypatch.setattr(installation, "find", interrupted)
    monkeypatch.setattr("sys.argv", ["nexus-server", "--models", "."])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == status
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.usefixtures("started")
def test_a_server_error_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Path) -> None:
        raise ServerError("there is no tritonserver; make one.")

    monkeypatch.setattr(installation, "find", broken)
    assert run(monkeypatch, "--models", ".") == "nexus-server: there is no tritonserver; make one."
    assert run(monkeypatch, "--models", "absent").endswith("give the model repository with --models.")
