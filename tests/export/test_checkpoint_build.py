"""Building a group from a checkpoint: all of it or nothing, and safe from the default build afterwards."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from nexus_export import build as building
from nexus_export import checkpoint_build, cli
from nexus_export.artifacts import SOURCE_KEY, read_metadata
from nexus_export.default_profile import RECIPES, State, state
from nexus_export.downloads.packages import U2NETP, PinnedFile
from nexus_export.errors import BuildError, CheckpointError, ExportError
from nexus_export.exported import ExportedNetwork
from nexus_export.families import registry
from nexus_export.families.diffusion.checkpoint import open_checkpoint
from nexus_export.families.diffusion.tier_config import tier_config
from nexus_export.families.sam2 import checkpoint as sam2_checkpoint
from nexus_export.networks import GROUPS, artifact
from nexus_export.onnx_graphs import writing
from onnx import numpy_helper
from typer.testing import CliRunner

from tests.export.support import narrow_sam2

ROOT = Path(__file__).parents[2]
CACHE = ROOT / "build" / "cache"
PHOTOS = ROOT / "demo" / "photos"
TIER = "sd15"  # the faster one
Tiny = Callable[[str], Path]


def _run(*arguments: str) -> str:
    # Wide enough for each network's line.
    done = CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "160"})
    assert done.exit_code == 0, done.exception
    return done.stdout


@pytest.fixture
def two_photos(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of as few photos as quality is measured on, one to calibrate with and one to test."""
    folder = tmp_path_factory.mktemp("photos")
    for name in ("chelsea.jpg", "coffee.jpg"):
        (folder / name).symlink_to(PHOTOS / name)
    return str(folder)


def _files(repository: Path) -> list[str]:
    return sorted(str(path.relative_to(repository)) for path in repository.rglob("*") if path.is_file())


NETWORK_FILES = [f"{name}/1/model.onnx" for name in sorted(GROUPS[TIER])]


def test_the_command_builds_what_the_default_does_not_touch(
    tiny_checkpoint: Tiny, two_photos: str, tmp_path: Path
) -> None:
    out, checkpoint = str(tmp_path), str(tiny_checkpoint(TIER))
    built = _run(
        "build", TIER, "--checkpoint", checkpoint, "--photos", two_photos, "--out", out, "--cache", str(CACHE)
    )
    assert f"{TIER}: built from {checkpoint} in " in built
    figures = [name.replace("model.onnx", "quality.json") for name in NETWORK_FILES]
    assert _files(tmp_path) == sorted(
        ["generative_fill/1/merges.txt", "generative_fill/1/sd15.json", *NETWORK_FILES, *figures]
    )
    facts = json.loads((tmp_path / "generative_fill/1/sd15.json").read_text())
    assert facts.keys() == {"side", "latent_rgb", "random_weights"}
    assert (facts["side"], np.shape(facts["latent_rgb"]), facts["random_weights"]) == (256, (5, 3), True)
    merges = (tmp_path / "generative_fill/1/merges.txt").read_text().splitlines()
    assert (merges[0], merges[1], len(merges)) == ("#version: 0.2", "i n", 48_895)
    assert {state(RECIPES[name], tmp_path) for name in GROUPS[TIER]} == {State.CHECKPOINT}
    before = (tmp_path / NETWORK_FILES[0]).read_bytes()
    assert (
        _run("build", TIER, "--out", out, "--cache", str(CACHE)).count(
            "from a checkpoint, left alone (remove "
        )
        == 4
    )
    assert (tmp_path / NETWORK_FILES[0]).read_bytes() == before
    listed = [row for row in _run("list", "--out", out).splitlines() if row.startswith(TIER)]
    assert sum("(its own licence)" in row for row in listed) == 4


def test_sam2_comes_out_of_a_checkpoint(
    two_photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "narrow.pt"
    narrow_sam2.write_checkpoint(checkpoint)
    monkeypatch.setattr(sam2_checkpoint, "exports", partial(sam2_checkpoint.exports, sizes=narrow_sam2.SIZES))
    out = tmp_path / "repository"
    arguments = ("sam2", "--checkpoint", str(checkpoint), "--photos", two_photos, "--out", str(out))
    lines = _run("build", *arguments, "--cache", str(CACHE)).splitlines()
    assert [line.split(", max abs")[0] for line in lines[:2]] == [
        "sam2_encoder: built, 1 MB",
        "sam2_decoder: built, 16 MB",
    ]
    for name in GROUPS["sam2"]:
        assert read_metadata(artifact(name, out))[SOURCE_KEY] == "checkpoint narrow.pt"


def test_a_published_onnx_file_is_a_checkpoint_and_is_verified_against_it(
    two_photos: str, published: Callable[[PinnedFile], Path], tmp_path: Path
) -> None:
    checkpoint = str(published(U2NETP))
    out = ("--photos", two_photos, "--out", str(tmp_path / "repository"), "--cache", str(CACHE))
    assert "u2net: built, 5 MB, max abs" in _run("build", "u2net", "--checkpoint", checkpoint, *out)
    # Its name alone does not lead back to it.
    done = CliRunner().invoke(cli.app, ["verify", "u2net", *out])
    assert str(done.exception) == (
        "u2net was built from u2netp.onnx, which has to be there to compare with; "
        "run: nexus-export verify u2net --checkpoint PATH"
    )
    report = str(tmp_path / "report")
    figures = _run("verify", "u2net", "--checkpoint", checkpoint, "--report", report, *out).splitlines()[1]
    assert figures.split()[:2] == ["u2net", "fp32"]
    assert figures.split()[-1] == "ok"


def test_a_trained_checkpoint_is_not_called_random(tiny_checkpoint: Tiny, tmp_path: Path) -> None:
    for path in tiny_checkpoint(TIER).iterdir():
        if path.name != "RANDOM_WEIGHTS":
            (tmp_path / path.name).symlink_to(path)
    assert not tier_config(open_checkpoint(tmp_path, TIER)).random_weights


def test_large_weights_lie_beside_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export = RECIPES["sd15_unet"].export(CACHE, lambda _: None)
    inline = artifact("sd15_unet", tmp_path / "inline")
    path = artifact("sd15_unet", tmp_path)
    building.build_networks([export], "fp32", tmp_path / "inline", {}, None, lambda _: None)
    monkeypatch.setattr(writing, "INLINE_BYTES", 1_000_000)
    building.build_networks([export], "fp32", tmp_path, {}, None, lambda _: None)
    assert sorted(file.name for file in path.parent.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert path.stat().st_size < 1_000_000
    beside = onnx.load(str(path)).graph.initializer
    for one, other in zip(onnx.load(str(inline)).graph.initializer, beside, strict=True):
        assert np.array_equal(numpy_helper.to_array(one), numpy_helper.to_array(other))
    offsets = [
        int(entry.value)
        for tensor in onnx.load(str(path), load_external_data=False).graph.initializer
        for entry in tensor.external_data
        if entry.key == "offset"
    ]
    # A page each, as mapping the file into memory needs.
    assert len(set(offsets)) == len(export.weights)
    assert all(offset % 4096 == 0 for offset in offsets)
    onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    # A network that is small again leaves no data behind.
    monkeypatch.undo()
    building.build_networks([export], "fp32", tmp_path, {}, None, lambda _: None)
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("fault", [CheckpointError("damaged"), BuildError("the disk is full")])
def test_a_fault_half_way_leaves_the_old_set(
    fault: ExportError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in GROUPS[TIER]:
        path = artifact(name, tmp_path)
        path.parent.mkdir(parents=True)
        path.write_bytes(b"old")

    def exports(_: Path) -> Iterator[ExportedNetwork]:
        for name in GROUPS[TIER][:3]:
            yield RECIPES[name].export(CACHE, lambda _: None)
        raise fault

    # The exports of a tier's checkpoint, without the time that exporting takes.
    group = replace(registry.REGISTRY[TIER], exports=exports)
    monkeypatch.setattr(checkpoint_build, "REGISTRY", {**registry.REGISTRY, TIER: group})
    with pytest.raises(type(fault), match=str(fault)):
        checkpoint_build.build_checkpoint(
            TIER, str(tmp_path), "fp32", tmp_path, CACHE, PHOTOS, lambda _: None
        )
    assert _files(tmp_path) == sorted(NETWORK_FILES)
    assert {(tmp_path / name).read_bytes() for name in NETWORK_FILES} == {b"old"}


def test_make_tiny_writes_a_checkpoint(tmp_path: Path, tiny_checkpoint: Tiny) -> None:
    assert "random weights" in _run("make-tiny", "sd15", str(tmp_path / "tiny"), "--cache", str(CACHE))
    assert _files(tmp_path / "tiny") == _files(tiny_checkpoint("sd15"))


GROUP_WANTED = "a checkpoint holds a whole group; name one of sam, sam2, lama, u2net, isnet, sdxl, sd15."


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["build", "--checkpoint", "x"], GROUP_WANTED),
        (["build", "sam", "lama", "--checkpoint", "x"], GROUP_WANTED),
        (["build", "vit", "--checkpoint", "x"], GROUP_WANTED),
        (
            ["build", "sam_encoder", "--checkpoint", "x"],
            "a checkpoint holds a whole group; sam_encoder is part of sam, name that.",
        ),
        (["make-tiny", "u2net", "x"], "there is no tiny checkpoint of 'u2net'; choose from sdxl, sd15."),
    ],
)
def test_a_checkpoint_is_of_one_group(arguments: list[str], sentence: str) -> None:
    assert str(CliRunner().invoke(cli.app, arguments).exception) == sentence


@pytest.mark.parametrize("group", ["sam", "sdxl"])
def test_without_torch_the_command_names_what_to_install(
    group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Python's own mark of a module that is not installed.
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("nexus_export.")]:
        if name.endswith(".checkpoint"):
            monkeypatch.delitem(sys.modules, name)
    # No such file: the missing package is reported first.
    done = CliRunner().invoke(cli.app, ["build", group, "--checkpoint", "x", "--out", str(tmp_path)])
    assert str(done.exception) == (
        "this needs torch, which is not in this environment; run: pip install 'nexus-export[torch]'"
    )
