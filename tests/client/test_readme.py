"""The README's Python runs, block by block, against the transport in memory, and so do its commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from nexus_client.cli import app
from PIL import Image
from typer.testing import CliRunner

from tests.client.support.fakes import AsyncMockTransport, MockTransport

README = Path(__file__).parents[2] / "client" / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", README.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE
    )


@pytest.fixture
def folder(
    mock: MockTransport, async_mock: AsyncMockTransport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nexus_client._client.GrpcTransport", lambda _: mock)
    monkeypatch.setattr("nexus_client._async_client.AsyncGrpcTransport", lambda _: async_mock)
    Image.new("RGB", (640, 480), (90, 90, 90)).save("photo.jpg")
    Image.new("L", (640, 480), 255).save("mask.png")
    return tmp_path


def test_the_readme_has_its_blocks() -> None:
    assert len(blocks("python")) == 11
    assert len(blocks("sh")) == 2


@pytest.mark.parametrize("number", range(len(blocks("python"))))
@pytest.mark.usefixtures("folder")
@pytest.mark.filterwarnings("error:photo:DeprecationWarning")
def test_python_runs(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(blocks("python")[number], f"README.md, block {number}", "exec"), {"__name__": "__main__"})
    if "print(" in blocks("python")[number]:
        assert capsys.readouterr().out


def test_commands_run(folder: Path) -> None:
    lines = [line for line in blocks("sh")[1].splitlines() if line]
    assert len(lines) == 6
    for line in lines:
        result = CliRunner().invoke(app, shlex.split(line)[1:], catch_exceptions=False)
        assert result.exit_code == 0, (line, result.stderr)
    assert {path.name for path in folder.iterdir()} == {
        "photo.jpg", "mask.png", "without.png", "filled.png", "cutout.png", "bench.png", "steps"
    }  # fmt: skip
    assert [path.name for path in sorted((folder / "steps").iterdir())] == [
        "step_0005.jpg", "step_0010.jpg", "step_0015.jpg", "step_0020.jpg"
    ]  # fmt: skip


def test_every_public_exception_is_in_the_table() -> None:
    from nexus_client import exceptions

    text = README.read_text("utf-8")
    assert all(f"`{name}`" in text for name in exceptions.__all__)
