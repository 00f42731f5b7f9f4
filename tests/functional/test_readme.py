"""The code in README.md, server/README.md and ensembles/README.md works as it is printed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from nexus_server.local import LocalServer
from PIL import Image

from tests.functional.support.deployment import MODELS, ROOT, subset


def blocks(language: str, page: str = "README.md") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A scratch folder in which the README's paths to the photos are valid."""
    (tmp_path / "demo").symlink_to(ROOT / "demo")
    return tmp_path


def test_python(server: LocalServer, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = blocks("python")
    monkeypatch.chdir(checkout)
    names: dict[str, object] = {}
    exec(code.replace("localhost:8001", server.url), names)
    assert Image.open("launch-pad.png").size == (640, 427)


def test_shell(server: LocalServer, checkout: Path) -> None:
    (commands,) = blocks("sh")
    path = f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "NEXUS_URL": server.url}
    for command in commands.splitlines():
        done = subprocess.run(
            shlex.split(command), cwd=checkout, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
    assert {path.name for path in checkout.glob("*.png")} == {
        "launch-pad.png",
        "mask.png",
        "table.png",
        "cat.png",
        "filled.png",
    }


def test_server_python(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With only the models of its one operation, which start faster."""
    (code,) = blocks("python", "server/README.md")
    subset(checkout / "model_repository", "u2net", "remove_background")
    monkeypatch.chdir(checkout)
    exec(code, {})
    assert Image.open("cat.png").size == (451, 300)


def test_ensembles_python(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server."""
    (code,) = blocks("python", "ensembles/README.md")
    (checkout / "model_repository").symlink_to(MODELS)
    monkeypatch.chdir(checkout)
    exec(code, {})
    assert Image.open("cat.png").size == (451, 300)
