"""A backend service installs only the client."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from nexus_client import Client
from nexus_server.local import LocalServer
from PIL import Image

from tests.functional.support.deployment import PHOTOS, ROOT


def test_a_fresh_environment_with_only_the_client(
    server: LocalServer, client: Client, tmp_path: Path
) -> None:
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
    for foreign in ("nexus_server", "nexus_ensembles", "nexus_export"):
        tried = subprocess.run(
            [str(python), "-c", f"import {foreign}"], capture_output=True, text=True, cwd=tmp_path
        )
        assert tried.stderr.endswith(f"ModuleNotFoundError: No module named '{foreign}'\n")

    mask = tmp_path / "mask.png"
    command = [str(nexus), "segment", str(PHOTOS / "coffee.jpg"), "--point", "240,160", "-o", str(mask)]
    done = subprocess.run([*command, "--url", server.url], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    written = Image.open(mask)
    expected = client.segment(PHOTOS / "coffee.jpg", points=[(240, 160)]).mask
    assert (written.mode, written.size) == ("L", expected.shape[::-1])
    np.testing.assert_array_equal(np.asarray(written), expected * np.uint8(255))
