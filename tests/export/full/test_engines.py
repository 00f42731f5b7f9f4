"""The compact and tiny networks' engines that take too long for every run: a second architecture, and INT8."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from nexus_export import default_profile, networks
from nexus_export.artifacts import PRECISION_KEY, TARGET_KEY
from nexus_export.engines import libraries, manifest
from nexus_export.engines.artifact import write_engine
from nexus_export.engines.profile import fixed_dims_of
from nexus_export.exported import Array
from nexus_export.networks import NETWORKS
from nexus_export.precision.int8 import quantize

from tests.export.support.compiling import at_fp16, two_sided

CACHE = Path(__file__).parents[3] / "build" / "cache"
OFFERED = [name for name in default_profile.RECIPES if "int8" in NETWORKS[name].gate.bounds]


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default networks in FP32."""
    repository = tmp_path_factory.mktemp("fp32")
    for recipe in default_profile.RECIPES.values():
        default_profile.build(recipe, repository, CACHE, lambda _: None)
    return repository


@pytest.mark.parametrize("name", ["sam_encoder", "sdxl_unet", "sd15_unet"])
def test_networks_compile_for_a_t4(fp32: Path, tmp_path: Path, name: str) -> None:
    """The rest is in tests/export."""
    at_fp16(networks.artifact(name, fp32), name, tmp_path)
    engine = write_engine(NETWORKS[name], tmp_path, "sm75", libraries.load("rtx"), lambda _: None)
    assert manifest.read(engine).gpu == "sm75"


@pytest.mark.parametrize("name", OFFERED)
def test_int8_networks_compile(fp32: Path, tmp_path: Path, name: str) -> None:
    """Wherever it is offered. Calibrated on noise: the question is whether the graph compiles."""
    path = networks.artifact(name, fp32)
    model = onnx.load(str(path))
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    network, rows = two_sided(name), [_noise(name, fixed_dims_of(metadata))]
    metadata |= {PRECISION_KEY: "int8", TARGET_KEY: "gpu"}
    out = networks.artifact(name, tmp_path)
    quantize(path, rows, network.int8_keep, out, metadata, "gpu", network.fp32_ops)
    engine = write_engine(network, tmp_path, "sm86", libraries.load("rtx"), lambda _: None)
    assert manifest.read(engine).precision == "int8"


def _noise(name: str, fixed_dims: Mapping[str, int]) -> dict[str, Array]:
    """A row of the least size: pixels, tokens, latents, whatever the network takes."""
    network, generator = NETWORKS[name], np.random.default_rng(0)
    row: dict[str, Array] = {}
    for tensor in network.inputs:
        shape = [1]
        for dim in tensor.dims:
            sizes = network.axes[dim] if isinstance(dim, str) else None
            shape.append(sizes.least if sizes else fixed_dims[dim] if isinstance(dim, str) else dim)
        if tensor.dtype == "FP32":
            row[tensor.name] = generator.standard_normal(shape).astype(np.float32)
        else:
            dtype = np.uint8 if tensor.dtype == "UINT8" else np.int32
            row[tensor.name] = generator.integers(0, 256, shape, dtype)
    return row
