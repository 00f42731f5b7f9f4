"""The commands that `nexus-server` advises for a network that is not built work as they are printed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

from nexus_server import repository

from tests.functional.support.deployment import MODELS, ROOT


def test_the_advised_commands_build_what_is_missing(tmp_path: Path) -> None:
    """In a folder whose name needs quotes. `make` builds every network, so only its last command is compared."""
    models = tmp_path / "my models"
    for model in ("lama", "cleanup"):
        (models / model).mkdir(parents=True)
        shutil.copy(MODELS / model / "config.pbtxt", models / model)
    (models / "resize").mkdir()
    (models / "resize/config.pbtxt").write_text(
        'name: "resize" backend: "python"'
    )  # ready, so that `scan` returns
    before = repository.scan(models)
    assert sorted(before.ready) == ["resize"]
    advice = re.fullmatch(r"not built; run: (.+) \(in a checkout: (make .+)\)", before.missing["lama"])
    assert advice

    in_checkout = subprocess.run(
        f"{advice[2]} --dry-run", shell=True, cwd=ROOT, capture_output=True, text=True, check=True
    )
    last = shlex.split(in_checkout.stdout.splitlines()[-1])
    assert last == [".venv-export/bin/nexus-export", "build", "--out", str(models)]

    environment = {**os.environ, "PATH": f"{ROOT / '.venv-export/bin'}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(advice[1], shell=True, cwd=ROOT, env=environment, check=True)
    after = repository.scan(models)
    assert sorted(after.ready) == ["cleanup", "lama", "resize"]
    assert after.missing == {}
