"""Which tritonserver is found, and the errors where none can run. Nothing is downloaded here."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nexus_server import installation
from nexus_server.errors import ServerError

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
LIBPYTHON = f"libpython{MINOR}.so.1.0"


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that can run the embedded server, with nothing set up: its environment is tmp_path/env."""
    prefix = tmp_path / "env"
    (prefix / "lib").mkdir(parents=True)
    (prefix / "lib" / LIBPYTHON).touch()
    monkeypatch.setattr(installation, "VENDOR_ROOT", tmp_path / "absent")
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(installation, "version_of", lambda _: "1.26.4")
    monkeypatch.setattr("sysconfig.get_config_var", lambda _: str(prefix / "lib"))
    monkeypatch.setattr(sys, "prefix", str(prefix))
    monkeypatch.setattr(sys, "base_prefix", str(prefix))
    return prefix


def wheel(path: Path) -> bytes:
    """A wheel with the files that are used, and one that is not."""
    stub = f"pytriton/tritonserver/python_backend_stubs/{MINOR}/triton_python_backend_stub"
    with zipfile.ZipFile(path, "w") as archive:
        for name in (
            "pytriton/tritonserver/bin/tritonserver",
            "pytriton/tritonserver/backends/python/libtriton_python.so",
            "pytriton/tritonserver/caches/local/libtritoncache_local.so",
            stub,
            "nvidia_pytriton.libs/libssl.so",
            "pytriton/client/client.py",
        ):
            archive.writestr(name, name)
    return path.read_bytes()


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A pip that "downloads" the small wheel, with the expected checksum; the commands it was called with."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        folder = Path(command[command.index("--dest") + 1])
        data = wheel(folder / "nvidia_pytriton-0.7.0.whl")
        monkeypatch.setattr(installation, "WHEEL_SHA256", hashlib.sha256(data).hexdigest())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr("subprocess.run", run)
    return commands


def refused(tmp_path: Path) -> str:
    with pytest.raises(ServerError) as caught:
        installation.find(tmp_path / "runtime")
    return str(caught.value)


def test_the_vendor_s_server_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vendor/bin").mkdir(parents=True)
    (tmp_path / "vendor/bin/tritonserver").touch()
    monkeypatch.setattr(installation, "VENDOR_ROOT", tmp_path / "vendor")
    monkeypatch.setattr(
        "platform.machine", lambda: "aarch64"
    )  # the requirements of the embedded one do not apply
    found = installation.find(tmp_path / "runtime")
    assert (found.binary, found.embedded) == (tmp_path / "vendor/bin/tritonserver", False)
    assert found.environment == {}


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        (
            "platform.system",
            lambda: "Darwin",
            "the embedded tritonserver needs Linux on x86_64; elsewhere use the vendor's Triton image.",
        ),
        (
            "platform.machine",
            lambda: "aarch64",
            "the embedded tritonserver needs Linux on x86_64; elsewhere use the vendor's Triton image.",
        ),
        (
            "platform.libc_ver",
            lambda: ("glibc", "2.31"),
            "the embedded tritonserver needs glibc 2.35 or newer (this machine has glibc 2.31); "
            "use Debian 12, Ubuntu 22.04 or newer.",
        ),
        (
            "platform.libc_ver",
            lambda: ("", ""),
            "the embedded tritonserver needs glibc 2.35 or newer (this machine has another libc); "
            "use Debian 12, Ubuntu 22.04 or newer.",
        ),
        (
            "nexus_server.installation.version_of",
            lambda _: "2.2.6",
            "the embedded tritonserver needs numpy 1.26; run: pip install 'numpy<2'",
        ),
    ],
)
def test_machines_that_cannot_run_it(
    name: str, value: Callable[..., Any], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name, value)
    assert refused(tmp_path) == sentence


@pytest.mark.parametrize("version", [(3, 9), (3, 13)])
def test_pythons_without_a_numpy_1(
    version: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "sys", type("sys", (), {"version_info": version}))
    monkeypatch.setattr("platform.python_version", lambda: "3.x")
    assert refused(tmp_path) == (
        "the embedded tritonserver needs a Python with numpy 1, 3.10 to 3.12, not 3.x; "
        "create the environment again with one of those."
    )


def test_a_python_without_a_shared_library(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine / "lib" / LIBPYTHON).unlink()

    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(installation, "CDLL", missing)
    assert refused(tmp_path) == (
        f"this Python has no shared libpython{MINOR}.so, which Triton's Python backend needs; install the "
        f"package libpython{MINOR}, or build Python with --enable-shared."
    )


def test_a_folder_that_runs_no_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/scratch")
    mounted = SimpleNamespace(f_flag=os.ST_NOEXEC | os.ST_NODEV)
    monkeypatch.setattr("os.statvfs", {"/scratch": mounted}.__getitem__)
    assert refused(tmp_path) == (
        "/scratch is mounted noexec, and Triton's Python backend runs from there; "
        "set TMPDIR to a folder that allows execution."
    )


def test_a_machine_that_can_run_it_passes_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    installation.check_machine()
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(ServerError, match="needs Linux on x86_64"):
        installation.check_machine()


@pytest.mark.usefixtures("pip")
def test_two_first_starts_at_once(machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slower one uses what the other has set up."""
    root = machine / "share/nexus-server/tritonserver-2.51.0"
    rename = Path.rename

    def late(path: Path, target: Path) -> Path:
        shutil.copytree(path, root)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", late)
    found = installation.find(tmp_path / "runtime")
    assert found.binary == root / "pytriton/tritonserver/bin/tritonserver"
    assert list(root.parent.iterdir()) == [root]


@pytest.mark.usefixtures("pip")
def test_a_library_that_the_linker_finds_itself_adds_no_folder(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine / "lib" / LIBPYTHON).unlink()
    monkeypatch.setattr(installation, "CDLL", lambda name: name)
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    libraries = installation.find(tmp_path / "runtime").environment["LD_LIBRARY_PATH"]
    assert [Path(folder).name for folder in libraries.split(os.pathsep)] == ["nvidia_pytriton.libs"]


def test_the_wheel_is_set_up_once(
    machine: Path, pip: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/inherited")
    root = machine / "share/nexus-server/tritonserver-2.51.0"
    for runtime in (tmp_path / "first", tmp_path / "second"):
        found = installation.find(runtime)
        assert found.embedded
        assert found.binary == root / "pytriton/tritonserver/bin/tritonserver"
        assert os.access(found.binary, os.X_OK)
        assert sorted(path.name for path in (found.backends / "python").iterdir()) == [
            "libtriton_python.so",
            "triton_python_backend_stub",
        ]
        assert (
            (found.backends / "onnxruntime/model.py")
            .read_text()
            .startswith('"""Triton\'s onnxruntime backend')
        )
        libraries = found.environment["LD_LIBRARY_PATH"].split(os.pathsep)
        assert libraries == [str(root / "nvidia_pytriton.libs"), str(machine / "lib"), "/inherited"]
        assert found.environment["PATH"].split(os.pathsep)[0] == str(machine / "bin")
    ((*_, requirement),) = pip
    assert requirement == "nvidia-pytriton==0.7.0"
    assert "--no-deps" in pip[0]
    assert not (root / "pytriton/client").exists()  # only what is used


@pytest.mark.usefixtures("pip")
def test_a_wheel_of_another_checksum_is_not_unpacked(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = subprocess.run

    def tampering(command: list[str], **options: Any) -> Any:
        done = run(command, **options)
        monkeypatch.setattr(installation, "WHEEL_SHA256", "0" * 64)
        return done

    monkeypatch.setattr("subprocess.run", tampering)
    message = refused(tmp_path)
    assert message.startswith(
        "the nvidia-pytriton==0.7.0 that pip downloaded is not the published file (sha256 "
    )
    assert message.endswith("); check pip's index.")
    assert list((machine / "share/nexus-server").iterdir()) == []  # nothing is left behind


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [("Traceback\nERROR: no network\n", "ERROR: no network"), ("", "pip gave no reason")],
)
def test_a_failed_download(
    stderr: str, reason: str, machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = subprocess.CompletedProcess([], 1, "", stderr)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: failed)
    assert refused(tmp_path) == (
        f"pip could not download nvidia-pytriton==0.7.0 ({reason}); check the network and pip's index, then try again."
    )
    assert list((machine / "share/nexus-server").iterdir()) == []


def test_a_full_disk(machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryDirectory", full)
    assert refused(tmp_path) == (
        f"tritonserver cannot be unpacked into {machine}/share/nexus-server (No space left on device); "
        "free 300 MB there, or make the environment where you may write."
    )
