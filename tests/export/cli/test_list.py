"""The tables of MODELS.md are those that the code prints."""

from pathlib import Path

from nexus_export.cli import app
from typer.testing import CliRunner


def test_the_page_of_models_holds_the_printed_tables() -> None:
    page = (Path(__file__).parents[3] / "MODELS.md").read_text()
    checkpoints, sums = CliRunner().invoke(app, ["list", "--pins"]).stdout.rstrip("\n").split("\n\n")
    assert f"\n\n{checkpoints}\n\n" in page
    assert f"\n\n{sums}\n\n" in page
    assert max(map(len, [*checkpoints.splitlines(), *sums.splitlines()])) <= 120
