"""Published checkpoints: the list's own consistency, and how their files get into a cache and stay right there."""

import hashlib
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

import pytest
from nexus_export import checkpoint_cache, downloads
from nexus_export.checkpoint_cache import fetch, locate
from nexus_export.checkpoints import CHECKPOINTS, Archive, PublishedCheckpoint, PublishedFile
from nexus_export.errors import CheckpointError, SourceError
from nexus_export.networks import GROUPS, NETWORKS
from nexus_export.sources import U2NETP

from .file_server import FileServer, Site


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(downloads, "BACKOFF_SECONDS", ())
    server = FileServer()
    yield server.site
    server.close()


def _publish(site: Site, name: str, contents: dict[str, bytes], group: str = "sdxl") -> PublishedCheckpoint:
    files = []
    for path, content in contents.items():
        site.files[f"/{name}/{path}"] = content
        files.append(PublishedFile(path, f"{site.url}/{name}/{path}", _sha256(content), len(content)))
    return PublishedCheckpoint(name, group, tuple(files), "Apache-2.0", "a test's")


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
    assert groups <= NETWORKS.keys() | GROUPS.keys()


def test_u2netp_is_the_compact_profile_s_file() -> None:
    assert CHECKPOINTS["u2netp"].files[0].sha256 == U2NETP.sha256


def test_the_page_of_models_lists_every_one() -> None:
    page = (Path(__file__).parents[2] / "MODELS.md").read_text()
    for checkpoint in CHECKPOINTS.values():
        largest = max(checkpoint.files, key=lambda file: file.bytes or 0)
        [row] = (
            line
            for line in page.splitlines()
            if line.startswith(f"| `{checkpoint.name}` | {checkpoint.group} |")
        )
        assert f"`{largest.sha256}`" in row
        assert row.endswith(f"| {checkpoint.licence} |")


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


def test_single_file_and_folder(site: Site, tmp_path: Path) -> None:
    single = _publish(site, "one", {"one.pt": b"weights"})
    assert fetch(single, tmp_path, lambda _: None).read_bytes() == b"weights"
    folder = fetch(
        _publish(site, "two", {"model_index.json": b"{}", "unet/config.json": b"[]"}), tmp_path, print
    )
    assert folder == tmp_path / "two"
    assert (folder / "unet" / "config.json").read_bytes() == b"[]"


def test_what_is_there_is_verified_and_not_fetched_again(site: Site, tmp_path: Path) -> None:
    checkpoint = _publish(site, "one", {"one.pt": b"weights"})
    path = fetch(checkpoint, tmp_path, lambda _: None)
    steps: list[str] = []
    fetch(checkpoint, tmp_path, steps.append)
    assert (len(site.requests), steps) == (1, ["verifying one.pt"])
    path.write_bytes(b"weighed")
    assert fetch(checkpoint, tmp_path, lambda _: None).read_bytes() == b"weights"
    assert len(site.requests) == 2


def test_files_before_a_failed_one_stay(site: Site, tmp_path: Path) -> None:
    checkpoint = _publish(site, "two", {"first": b"1", "second": b"2"})
    site.statuses["/two/second"] = [404]
    with pytest.raises(SourceError, match="/two/second is not there any more"):
        fetch(checkpoint, tmp_path, lambda _: None)
    fetch(checkpoint, tmp_path, lambda _: None)
    assert len(site.requests) == 3


def test_a_file_of_two_checkpoints_is_fetched_once(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = _publish(site, "one", {"unet": b"large", "vae": b"a"})
    two = _publish(site, "two", {"unet": b"large", "vae": b"b"})
    monkeypatch.setattr(checkpoint_cache, "CHECKPOINTS", MappingProxyType({"one": one, "two": two}))
    fetch(one, tmp_path, lambda _: None)
    assert (fetch(two, tmp_path, lambda _: None) / "unet").read_bytes() == b"large"
    assert site.served == len(b"large" + b"a" + b"b")
    assert (tmp_path / "one" / "unet").samefile(tmp_path / "two" / "unet")


def test_without_a_published_checksum_the_first_one_counts(site: Site, tmp_path: Path) -> None:
    site.files["/config.json"] = b"{}"
    file = PublishedFile("config.json", f"{site.url}/config.json", None, None)
    checkpoint = PublishedCheckpoint("small", "sd15", (file,), "", "")
    steps: list[str] = []
    path = fetch(checkpoint, tmp_path, steps.append)
    assert steps[-1] == (
        f"config.json has no published checksum; its SHA-256 is {_sha256(b'{}')}, compared from now on"
    )
    path.unlink()
    site.files["/config.json"] = b"[]"
    with pytest.raises(SourceError, match="is pinned; do not use it"):
        fetch(checkpoint, tmp_path, lambda _: None)
    assert not path.exists()


def test_an_archive_is_verified_unpacked_and_removed(site: Site, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        opened.writestr("big/models/best.ckpt", b"weights")
        opened.writestr("big/config.yaml", b"run: me")
    content = packed.getvalue()
    site.files["/big.zip"] = content
    archive = Archive("big/models/best.ckpt", _sha256(content), len(content))
    file = PublishedFile("best.ckpt", f"{site.url}/big.zip", _sha256(b"weights"), 7, archive)
    checkpoint = PublishedCheckpoint("big", "lama", (file,), "", "")
    assert fetch(checkpoint, tmp_path, lambda _: None).read_bytes() == b"weights"
    assert [item.name for item in (tmp_path / "big").iterdir()] == ["best.ckpt"]
    fetch(checkpoint, tmp_path, lambda _: None)
    assert len(site.requests) == 1


def test_a_name_a_hub_id_or_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_cache, "fetch", lambda checkpoint, cache, _: cache / checkpoint.name)
    assert locate("sam_vit_b", "sam", tmp_path, print) == tmp_path / "sam_vit_b"
    hub = "diffusers/stable-diffusion-xl-1.0-inpainting-0.1"
    assert locate(hub, "sdxl", tmp_path, print) == tmp_path / "sdxl-inpainting"
    (tmp_path / "mine.pth").touch()
    assert locate(str(tmp_path / "mine.pth"), "sam", tmp_path, print) == tmp_path / "mine.pth"


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
