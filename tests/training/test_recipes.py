"""The recipes of the committed weights: scripts whose commands the trainings accept."""

import os
import shlex
import subprocess
from pathlib import Path

from nexus_training.lama.train import parse_arguments as parse_lama
from nexus_training.sdxl.train import parse_arguments as parse_sdxl

RECIPES = Path(__file__).parents[2] / "training" / "recipes"


def commands(folder: Path, recipe: str, *arguments: str) -> list[list[str]]:
    """The arguments of each call of Python in a recipe, recorded by a script in its place."""
    (python := folder / "python").write_text(
        '#!/bin/bash\nprintf "%q " "$@" >> "$RECORD"\necho >> "$RECORD"\n'
    )
    python.chmod(0o755)
    record = folder / "record"
    environment = {**os.environ, "PYTHON": str(python), "RECORD": str(record)}
    subprocess.run([RECIPES / recipe, *arguments], env=environment, check=True)
    return [shlex.split(line) for line in record.read_text().splitlines()]


def test_the_recipe_of_lama(tmp_path: Path) -> None:
    (tmp_path / "textures").mkdir()
    arguments = (str(tmp_path), str(tmp_path / "out"), "--seed", "9")
    first, second, scaling = commands(tmp_path, "compact_lama.sh", *arguments)
    assert first[:2] == second[:2] == ["-m", "nexus_training.lama.train"]
    runs = [parse_lama(command[2:]) for command in (first, second)]
    assert [(run.minutes, run.batch, run.crop, run.learning_rate, run.seed) for run in runs] == [
        (109, 8, 192, 1.5e-3, 9),
        (15, 8, 192, 6e-4, 9),
    ]
    assert all(run.photos == [tmp_path / "photos", tmp_path / "textures"] for run in runs)
    assert runs[0].weights is None
    assert runs[1].weights == runs[0].out / "lama_compact.safetensors"
    assert scaling[1:] == [
        "nexus_training.lama.scale_grain",
        str(runs[1].out / "lama_compact.safetensors"),
        str(tmp_path / "out" / "lama_compact.safetensors"),
        "0.75",
    ]


def test_the_recipe_of_sdxl(tmp_path: Path) -> None:
    [command] = commands(tmp_path, "compact_sdxl.sh", "photos of mine", "words.gz", "out")
    assert command[:2] == ["-m", "nexus_training.sdxl.train"]
    run = parse_sdxl(command[2:])
    assert run.photos == [Path("photos of mine/photos"), Path("photos of mine/sdxl")]
    assert (run.minutes_vae, run.batch_vae, run.minutes_unet, run.batch_unet, run.fresh) == (
        42,
        32,
        141,
        32,
        3,
    )
    assert sum(1 for folder in run.held_out for _ in folder.glob("*.jpg")) == 8
