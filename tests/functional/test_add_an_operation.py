"""docs/add-an-operation.md, followed in a copy of the repository, adds an operation that a real Triton serves."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
from PIL import Image

from tests.functional.support.deployment import ROOT
from tests.functional.support.photos import photo_array

PAGE = (ROOT / "docs/add-an-operation.md").read_text()
PATH_LINE = re.compile(r"^# (\S+/\S+)\n", re.MULTILINE)
# Runs the page's call against the copy's own server.
CALL = """
from pathlib import Path
from nexus_client import Client
from nexus_server.local import LocalServer
with LocalServer(Path("model_repository"), Path("server.log")) as server:
    {call}
"""


def parts() -> dict[str, str]:
    """What the page writes, by path."""
    (_, *split) = PATH_LINE.split(
        "".join(re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
    )
    return dict(zip(split[::2], split[1::2], strict=True))


def copy_repository(into: Path) -> Path:
    """Copy what serves, no network of it built; returns the Python of an environment that has the copy installed.

    The stub's Python ignores PYTHONPATH, so this is a real environment. Third-party packages come from the one
    that runs this test; its links to the original repository have no effect there.
    """
    artifacts = shutil.ignore_patterns(
        "model.onnx*", "model.plan*", "model.rtx*", "*.json", "merges.txt", "build"
    )
    for folder in ("client", "ensembles", "server", "model_repository"):
        shutil.copytree(ROOT / folder, into / folder, ignore=artifacts)
    (into / "demo").symlink_to(ROOT / "demo")
    environment = into / "environment"
    venv.create(environment, symlinks=True)
    (environment / "share").symlink_to(Path(sys.prefix) / "share")  # tritonserver
    (packages,) = environment.glob("lib/python3*/site-packages")
    for package in ("client/nexus_client", "ensembles/nexus_ensembles", "server/nexus_server"):
        (packages / Path(package).name).symlink_to(into / package)
    (packages / "nexus_backends").symlink_to(into / "server/backends")
    (packages / "third_party.pth").write_text(f"{Path(np.__file__).parents[1]}\n")
    return environment / "bin/python"


def test_the_page_adds_an_operation(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    python = copy_repository(copy)
    for path, text in parts().items():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        with (copy / path).open("a") as file:
            file.write(f"\n{text}")
    (call,) = re.findall(r"`(Client\(.*?)`", PAGE)
    code = CALL.format(call=call.replace('"localhost:8001"', "server.url"))
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([str(python), "-c", code], cwd=copy, env=variables, check=True)
    mirrored = np.asarray(Image.open(copy / "mirrored.png"))
    np.testing.assert_array_equal(mirrored, photo_array("chelsea.jpg")[:, ::-1])


def test_the_page_is_short() -> None:
    assert len(PAGE.splitlines()) <= 40
