"""A backend service installs the client alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from nexus_server.local import LocalServer

from tests.functional.helpers import PHOTOS, ROOT


def test_a_fresh_environment_with_the_client_alone(server: LocalServer, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python, nexus = environment / "bin/python", environment / "bin/nexus"
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "./client"]
    subprocess.run(install, cwd=ROOT, check=True)
    listed = subprocess.run(
        [str(python), "-m", "pip", "list"], capture_output=True, text=True, check=True
    ).stdout
    for foreign in ("nexus-server", "nexus-ensembles", "nexus-export", "onnxruntime", "opencv", "torch"):
        assert foreign not in listed

    mask = tmp_path / "mask.png"
    command = [str(nexus), "segment", str(PHOTOS / "coffee.jpg"), "--point", "240,160", "-o", str(mask)]
    done = subprocess.run([*command, "--url", server.url], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert mask.stat().st_size > 0
