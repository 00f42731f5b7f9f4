"""Every network compiles for a GPU, without one; refusals give the reason; the server trusts no other engine."""

import dataclasses
import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from nexus_export import cli, networks
from nexus_export.artifacts import PRECISION_KEY, TARGET_KEY
from nexus_export.engines import libraries, manifest
from nexus_export.engines.artifact import write_engine
from nexus_export.engines.builder import BuildRequest, keeps_fp32_products
from nexus_export.engines.libraries import Library
from nexus_export.engines.profile import profile
from nexus_export.errors import BuildError
from nexus_export.files import sha256_of
from nexus_export.networks import NETWORKS, Precision
from nexus_export.precision.int8 import quantize

from tests.export.support.compiling import at_fp16, two_sided

Artifact = Callable[[str], Path]
ROOT = Path(__file__).parents[3]

# Networks that keep an FP32 matrix product at FP16: LaMa's DFT, and the attention of the autoencoders, which compute
# in FP32 throughout.
FP32_PRODUCTS = {"lama"} | {name for name in NETWORKS if "_vae_" in name}
# For a second architecture these are compiled in tests/export/full: 5 to 13 seconds of a core each.
SLOW = {"sam_encoder", "sdxl_unet", "sd15_unet"}


@pytest.fixture(scope="module")
def rtx() -> Library:
    return libraries.load("rtx")


@pytest.fixture(scope="module")
def half(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A repository that holds the network of this name in FP16, and others."""
    repository = tmp_path_factory.mktemp("fp16")

    def convert(name: str) -> Path:
        if not networks.artifact(name, repository).is_file():
            at_fp16(artifact(name), name, repository)
        return repository

    return convert


@pytest.fixture(scope="module")
def server_engines() -> ModuleType:
    """nexus_server.engines, which is not installed where networks are built."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "server"))
        return importlib.import_module("nexus_server.engines")


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_compiles_in_fp16(half: Callable[[str], Path], rtx: Library, name: str) -> None:
    """For sm86; its manifest has all that the server reads. LaMa at sizes that are not square."""
    network = two_sided(name)
    steps: list[str] = []
    engine = write_engine(network, half(name), "sm86", rtx, steps.append)
    found = manifest.read(engine)
    assert engine.name == "model.rtx"
    assert (found.network, found.gpu, found.precision) == (name, "sm86", "fp16")
    assert (found.library, found.library_version) == ("rtx", rtx.version)
    assert found.engine_bytes == engine.stat().st_size
    assert found.engine_sha256 == sha256_of(engine)
    assert found.onnx_sha256 == {"model.onnx": sha256_of(networks.artifact(name, half(name)))}
    # The whole network is in it: an engine has all weights of the ONNX file, in one form or another.
    assert found.engine_bytes > 0.8 * networks.artifact(name, half(name)).stat().st_size
    assert set(found.profile) == {tensor.name for tensor in network.inputs}
    assert {shapes.most[0] for shapes in found.profile.values()} == {network.max_batch}
    assert steps[0] == "reading the graph"
    assert any("%" in step for step in steps)
    assert steps[-1] == "writing the engine"


@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - FP32_PRODUCTS - SLOW))
def test_networks_compile_for_a_t4(half: Callable[[str], Path], rtx: Library, name: str) -> None:
    """sm75, which TensorRT-RTX gives no FP32 matrix product."""
    engine = write_engine(NETWORKS[name], half(name), "sm75", rtx, lambda _: None)
    assert manifest.read(engine).gpu == "sm75"


@pytest.mark.parametrize("name", ["lama", "sdxl_vae_decoder"])
def test_what_keeps_an_fp32_product_is_refused_for_a_t4(
    half: Callable[[str], Path], rtx: Library, name: str
) -> None:
    with pytest.raises(BuildError) as refused:
        write_engine(NETWORKS[name], half(name), "sm75", rtx, lambda _: None)
    assert str(refused.value) == (
        f"TensorRT-RTX has no FP32 matrix product for sm75, and {name} keeps one at every precision; serve its "
        "model.onnx there, or use --backend tensorrt on that GPU."
    )


def test_an_int8_network_compiles(artifact: Artifact, rtx: Library, tmp_path: Path) -> None:
    """U2-Net for a T4, its layers all INT8 and the rest FP16; tests/export/full has the others. Any ranges do."""
    generator = np.random.default_rng(0)
    rows = [{"image": generator.integers(0, 256, (1, 320, 320, 3), np.uint8)}]
    path = networks.artifact("u2net", tmp_path)
    metadata = {PRECISION_KEY: "int8", TARGET_KEY: "cpu"}
    quantize(artifact("u2net"), rows, (), path, metadata, "cpu")
    with pytest.raises(BuildError, match="build it again with --precision int8 --for gpu"):
        write_engine(NETWORKS["u2net"], tmp_path, "sm75", rtx, lambda _: None)
    quantize(artifact("u2net"), rows, (), path, metadata | {TARGET_KEY: "gpu"}, "gpu")
    found = manifest.read(write_engine(NETWORKS["u2net"], tmp_path, "sm75", rtx, lambda _: None))
    assert found.precision == "int8"


def test_weights_beside_the_graph_are_found(artifact: Artifact, rtx: Library, tmp_path: Path) -> None:
    model = onnx.load(str(artifact("u2net")))
    path = networks.artifact("u2net", tmp_path)
    path.parent.mkdir(parents=True)
    onnx.save(model, str(path), save_as_external_data=True, location="model.onnx.data", size_threshold=1024)
    engine = write_engine(NETWORKS["u2net"], tmp_path, "sm86", rtx, lambda _: None)
    assert manifest.read(engine).onnx_sha256.keys() == {"model.onnx", "model.onnx.data"}
    # 4.3 MB of weights lie there; without them the engine has only its code.
    assert engine.stat().st_size > path.with_name("model.onnx.data").stat().st_size
    path.with_name("model.onnx.data").unlink()
    with pytest.raises(BuildError, match=r"^TensorRT-RTX 1\.7\.1\.116 does not build u2net for sm86 \("):
        write_engine(NETWORKS["u2net"], tmp_path, "sm86", rtx, lambda _: None)


def test_a_file_that_changes_meanwhile_gets_no_engine(
    artifact: Artifact, rtx: Library, tmp_path: Path
) -> None:
    at_fp16(artifact("sd15_text_encoder"), "sd15_text_encoder", tmp_path)
    path = networks.artifact("sd15_text_encoder", tmp_path)

    def build_anew(_: str) -> None:
        path.write_bytes(artifact("sd15_text_encoder").read_bytes())

    with pytest.raises(
        BuildError, match=r"^sd15_text_encoder changed while its engine was built; run again: "
    ):
        write_engine(NETWORKS["sd15_text_encoder"], tmp_path, "sm86", rtx, build_anew)
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]


def test_the_shapes_come_from_the_registry() -> None:
    unet = profile(NETWORKS["sdxl_unet"], {"context_width": 2048, "pooled_width": 1280})
    assert unet["sample"] == ((1, 9, 8, 8), (2, 9, 128, 128), (16, 9, 192, 192))
    assert unet["context"] == ((1, 77, 2048), (2, 77, 2048), (16, 77, 2048))
    assert profile(NETWORKS["sam_decoder"], {}, max_batch=4)["points"] == ((1, 2, 2), (2, 8, 2), (4, 72, 2))
    assert profile(NETWORKS["lama"], {}, max_batch=99)["mask"].most == (4, 2048, 2048, 1)
    with pytest.raises(BuildError, match="does not record its context_width; build it again"):
        profile(NETWORKS["sdxl_unet"], {})


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("name", NETWORKS)
def test_fp32_products_are_not_tf32(name: str, precision: Precision) -> None:
    """At FP16 those of the autoencoders and of LaMa's DFT; at the others all that are not INT8."""
    request = BuildRequest(NETWORKS[name], Path(), precision, "sm86", {})
    assert keeps_fp32_products(request) == (precision != "fp16" or name in FP32_PRODUCTS)


def test_the_server_reads_the_manifest(
    half: Callable[[str], Path], rtx: Library, server_engines: ModuleType, tmp_path: Path
) -> None:
    """The same engine for this GPU and another, whole and cut short, of this ONNX file and another."""
    plans = Library("tensorrt", rtx.api, rtx.version, "model.plan")
    folder = networks.artifact("u2net", tmp_path).parent
    at_fp16(networks.artifact("u2net", half("u2net")), "u2net", tmp_path)
    built = write_engine(NETWORKS["u2net"], tmp_path, "sm86", rtx, lambda _: None, max_batch=4)
    built.rename(folder / plans.file)
    manifest.write(dataclasses.replace(manifest.read(built), library=plans.backend), folder / plans.file)
    node = server_engines.Node(("sm86",), rtx.version)
    choice = server_engines.choose(folder, node)
    assert (choice.file, choice.complaint, choice.max_batch_size) == ("model.plan", "", 4)
    other = server_engines.choose(folder, server_engines.Node(("sm75",), rtx.version))
    assert (other.file, other.complaint) == ("model.onnx", "is for sm86, this GPU is sm75")
    onnx_file, content = folder / "model.onnx", (folder / "model.onnx").read_bytes()
    onnx_file.write_bytes(content + b" ")
    assert server_engines.choose(folder, node).complaint == "was built from a different model.onnx"
    onnx_file.write_bytes(content)
    (folder / "model.plan").write_bytes((folder / "model.plan").read_bytes()[:-1])
    assert "bytes where its manifest says" in server_engines.choose(folder, node).complaint


def test_the_command_builds_what_is_there(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at_fp16(artifact("sd15_text_encoder"), "sd15_text_encoder", tmp_path)
    command = ["nexus-export", "engine", "--gpu", "sm89", "--backend", "rtx", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", [*command, "--max-batch", "2", "--stream-weights"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in (None, 0)
    assert capsys.readouterr().out.startswith("sd15_text_encoder: model.rtx for sm89 built in ")
    found = manifest.read(networks.artifact("sd15_text_encoder", tmp_path).with_name("model.rtx"))
    assert found.gpu == "sm89"
    assert found.profile["input_ids"].most == (2, 77)
