"""Checkpoint files: every format gives the same tensors, no code in a file is run, each refusal gives the reason."""

import os
import pickle
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from nexus_export.errors import CheckpointError
from nexus_export.families.checkpoint_files import check_architecture, read_state
from safetensors.torch import save_file
from torch import Tensor, nn

State = dict[str, Tensor]


@pytest.fixture
def state() -> State:
    rng = torch.Generator().manual_seed(0)
    return {
        "encoder.weight": torch.randn(40, 3, generator=rng),
        "encoder.bias": torch.randn(7, generator=rng).half(),
        "norm.steps": torch.tensor(3),
        # Not contiguous, as a transposed weight is stored.
        "decoder.weight": torch.randn(5, 8, generator=rng).T,
    }


def _scripted(state: State) -> "torch.jit.ScriptModule":
    root = nn.Module()
    for name, tensor in state.items():
        part, leaf = name.split(".")
        if not hasattr(root, part):
            root.add_module(part, nn.Module())
        root.get_submodule(part).register_buffer(leaf, tensor)
    return torch.jit.script(root)


def _write(form: str, state: State, path: Path) -> None:
    match form:
        case "zip":
            torch.save(state, path)
        case "before zip":
            torch.save(state, path, _use_new_zipfile_serialization=False)
        case "under model":
            torch.save({"model": state, "epoch": 3}, path)
        case "under state_dict":
            torch.save({"state_dict": state, "optimizer_states": [{"lr": 0.1}]}, path)
        case "safetensors":
            save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
        case "torchscript":
            torch.jit.save(_scripted(state), str(path))


@pytest.mark.parametrize(
    "form", ["zip", "before zip", "under model", "under state_dict", "safetensors", "torchscript"]
)
def test_every_form_gives_the_same_tensors(form: str, state: State, tmp_path: Path) -> None:
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pt")
    _write(form, state, path)
    read = read_state(path)
    assert read.keys() == state.keys()
    for name, tensor in state.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)


@pytest.mark.parametrize("form", ["zip", "safetensors", "torchscript"])
def test_large_files_are_mapped_not_copied(form: str, tmp_path: Path) -> None:
    path = tmp_path / ("large.safetensors" if form == "safetensors" else "large.pt")
    _write(form, {"part.weight": torch.ones(64 << 20)}, path)
    before = _resident_bytes()
    read = read_state(path)
    # The file has 256 MB; only the reader's own memory stays resident.
    assert _resident_bytes() - before < 32 << 20
    assert read["part.weight"][-1] == 1


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class _Touch:
    """Unpickling it creates a file: the attack that loading must not fall for."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.target}",)


def _attack_zip(path: Path, target: Path) -> None:
    torch.save({"state_dict": {"weight": torch.zeros(1)}, "extra": _Touch(target)}, path)


def _attack_zip_protocol_4(path: Path, target: Path) -> None:
    torch.save({"weight": torch.zeros(1), "extra": _Touch(target)}, path, pickle_protocol=4)


def _attack_before_zip(path: Path, target: Path) -> None:
    content = {"weight": torch.zeros(1), "extra": _Touch(target)}
    torch.save(content, path, _use_new_zipfile_serialization=False)


def _attack_bare_pickle(path: Path, target: Path) -> None:
    path.write_bytes(pickle.dumps({"weight": _Touch(target)}))


def _attack_torchscript_pickle(path: Path, target: Path) -> None:
    """An archive whose own pickle calls os.system."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/constants.pkl", pickle.dumps(()))
        archive.writestr("archive/data.pkl", pickle.dumps(_Touch(target), protocol=2))


@pytest.mark.parametrize(
    "attack",
    [
        _attack_zip,
        _attack_zip_protocol_4,
        _attack_before_zip,
        _attack_bare_pickle,
        _attack_torchscript_pickle,
    ],
)
def test_code_is_refused_and_never_run(attack: Callable[[Path, Path], None], tmp_path: Path) -> None:
    path, target = tmp_path / "attack.pt", tmp_path / "made_by_the_attack"
    attack(path, target)
    with pytest.raises(CheckpointError, match=r"carries code beside its weights.*, which is never run; "):
        read_state(path)
    assert not target.exists()


class _Opening(nn.Module):
    """A TorchScript module whose `__setstate__` creates a file."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target
        self.register_buffer("weight", torch.ones(3))

    @torch.jit.export
    def __getstate__(self) -> tuple[str, Tensor, bool]:
        return self.target, self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, Tensor, bool]) -> None:
        self.target = state[0]
        self.weight = torch.from_file(state[0], shared=True, size=3)
        self.training = state[2]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight


def test_torchscripts_own_code_is_not_run(tmp_path: Path) -> None:
    path, target = tmp_path / "opening.pt", tmp_path / "made_by_the_attack"
    torch.jit.save(torch.jit.script(_Opening(str(target))), str(path))
    target.unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match="holds no weights by name"):
        read_state(path)
    assert not target.exists()
    torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    # The attack works where the archive is run: the test above has something to find.
    assert target.exists()


def test_a_training_frameworks_objects_are_left_out(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("pytorch_lightning")
    callback = type("ModelCheckpoint", (), {"__module__": "pytorch_lightning"})
    module.ModelCheckpoint = callback  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pytorch_lightning", module)
    held = callback()
    held.best = 1.0
    path = tmp_path / "best.ckpt"
    torch.save({"callbacks": {callback: held}, "state_dict": state}, path)
    monkeypatch.delitem(sys.modules, "pytorch_lightning")
    assert read_state(path).keys() == state.keys()


@pytest.mark.parametrize("form", ["zip", "before zip", "safetensors", "torchscript"])
@pytest.mark.parametrize("kept", [0.9, 0.5, 0.02])
def test_a_truncated_file_is_refused(form: str, kept: float, state: State, tmp_path: Path) -> None:
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pt")
    _write(form, {**state, "large.weight": torch.ones(5000)}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CheckpointError, match=r"^weights\.\w+ is damaged.*; "):
        read_state(path)


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"<!DOCTYPE html><html>not found</html>", b"\xff\xd8\xff\xe0 a photo"]
)
def test_another_kind_of_file_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"^{name} is damaged or no checkpoint; fetch the file again"):
        read_state(path)


def test_another_zip_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("document.xml", "<a/>")
    with pytest.raises(CheckpointError, match="is damaged or no checkpoint"):
        read_state(path)


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    for name in ("weights.pt", "weights.safetensors"):
        with pytest.raises(CheckpointError, match=r"there is no file .*; check the path"):
            read_state(tmp_path / name)
    with pytest.raises(CheckpointError, match="is a folder; give the checkpoint's file"):
        read_state(tmp_path)


@pytest.mark.parametrize("content", [{"epoch": 3}, [torch.zeros(1)], torch.zeros(2)])
def test_a_file_without_named_weights_is_refused(content: object, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="holds no weights by name"):
        read_state(path)


@pytest.mark.parametrize(
    ("state", "difference"),
    [
        ({"b": torch.zeros(2)}, "no a"),
        ({"a": torch.zeros(3), "b": torch.zeros(2)}, r"a has the shape \[3\], not \[1, 3\]"),
        ({"a": torch.zeros(1, 3), "b": torch.zeros(2), "c": torch.zeros(())}, "c is surplus"),
    ],
)
def test_the_first_difference_of_an_architecture_is_named(state: State, difference: str) -> None:
    expected = {"a": (1, 3), "b": (2,)}
    message = (
        f"^f.pt is not the architecture of big-net \\({difference}\\); use a checkpoint published as big-net"
    )
    with pytest.raises(CheckpointError, match=message):
        check_architecture(Path("f.pt"), state, expected, "big-net")
    check_architecture(Path("f.pt"), {"b": torch.zeros(2), "a": torch.zeros(1, 3)}, expected, "big-net")
