"""The registry of groups: its published checkpoints' own consistency, and how a user's name finds one."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from nexus_export.downloads.packages import U2NETP
from nexus_export.errors import CheckpointError
from nexus_export.families import registry
from nexus_export.families.registry import CHECKPOINTS, REGISTRY, locate
from nexus_export.networks import GROUPS


def test_every_group_is_registered() -> None:
    assert REGISTRY.keys() == GROUPS.keys()
    for group in REGISTRY.values():
        assert {checkpoint.group for checkpoint in group.published} == {group.name}
        # A recipe for every network, or the group is built from a checkpoint alone.
        assert tuple(recipe.name for recipe in group.recipes) in ((), GROUPS[group.name])


def test_every_file_is_pinned_by_content_or_revision() -> None:
    unpinned = []
    for checkpoint in CHECKPOINTS.values():
        for file in checkpoint.files:
            assert urlsplit(file.url).scheme == "https"
            if file.sha256 is None:
                assert re.search(r"/resolve/[0-9a-f]{40}/", file.url)
                unpinned.append(file.path)
            else:
                assert re.fullmatch("[0-9a-f]{64}", file.sha256)
                assert file.bytes is not None
    # None of them holds weights.
    assert {Path(path).suffix for path in unpinned} == {".json"}
    assert len(unpinned) == 7


def test_every_group_is_the_registry_s() -> None:
    groups = {checkpoint.group for checkpoint in CHECKPOINTS.values()}
    assert groups == {"sam", "sam2", "lama", "u2net", "isnet", "sdxl", "sd15"}
    assert groups == GROUPS.keys()


def test_u2netp_is_the_compact_profile_s_file() -> None:
    assert CHECKPOINTS["u2netp"].files[0].sha256 == U2NETP.sha256


def test_the_fp16_variant_lies_under_the_plain_name() -> None:
    files = {file.path: file.url for file in CHECKPOINTS["sdxl-inpainting-fp16-vae"].files}
    assert files["unet/diffusion_pytorch_model.safetensors"].endswith(
        "/unet/diffusion_pytorch_model.fp16.safetensors"
    )
    # That VAE was never published in FP16, nor in a folder.
    assert re.search(
        "sdxl-vae-fp16-fix/resolve/[0-9a-f]{40}/diffusion_pytorch_model.safetensors$",
        files["vae/diffusion_pytorch_model.safetensors"],
    )
    assert len(files) == 18


def test_a_name_a_hub_id_or_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "fetch", lambda checkpoint, cache, _: cache / checkpoint.name)
    assert locate("sam_vit_b", "sam", tmp_path, print) == (
        tmp_path / "sam_vit_b",
        CHECKPOINTS["sam_vit_b"],
    )
    hub = "diffusers/stable-diffusion-xl-1.0-inpainting-0.1"
    assert locate(hub, "sdxl", tmp_path, print) == (
        tmp_path / "sdxl-inpainting",
        CHECKPOINTS["sdxl-inpainting"],
    )
    (tmp_path / "mine.pth").touch()
    assert locate(str(tmp_path / "mine.pth"), "sam", tmp_path, print) == (
        tmp_path / "mine.pth",
        None,
    )


@pytest.mark.parametrize(
    ("name", "group", "message"),
    [
        ("sam_vit_x", "sam", "give a path, or one of those published for sam: mobile_sam, sam_vit_b, "),
        (
            "u2net",
            "sam",
            "u2net is a checkpoint of u2net, not of sam; run: nexus-export build u2net --checkpoint",
        ),
    ],
)
def test_other_names_are_refused(name: str, group: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        locate(name, group, tmp_path, print)
