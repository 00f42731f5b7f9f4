"""Built networks and real photos for the export tests; files are downloaded once, into build/cache."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from diffusers import StableDiffusionInpaintPipeline, StableDiffusionXLInpaintPipeline
from nexus_export import default_profile, networks
from nexus_export.downloads.packages import CLIP_VOCABULARY, MOBILE_SAM_ENCODER, PinnedFile, fetch
from nexus_export.families import u2net
from nexus_export.families.diffusion import compact_checkpoint
from nexus_export.families.diffusion.clip_vocabulary import read_published
from nexus_export.families.diffusion.tiny_checkpoint import write_tiny_checkpoint
from nexus_export.families.sam.constants import IMAGE_SIZE, PIXEL_MEAN, PIXEL_STD
from nexus_export.onnx_graphs.writing import write_network
from numpy.typing import NDArray
from PIL import Image

from tests.export.support import narrow_sam2
from tests.export.support.random_isnet import write_isnet

ROOT = Path(__file__).parents[2]
CACHE = ROOT / "build" / "cache"
PHOTOS = ("astronaut", "chelsea", "coffee")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave `full` out unless it is named: its tests take 24 GB of memory and an hour."""
    folder = Path(__file__).parent / "full"
    named = any(folder in (path := Path(arg).resolve(), *path.parents) for arg in config.args)
    return True if collection_path == folder and not named else None


@pytest.fixture(scope="session")
def published() -> Callable[[PinnedFile], Path]:
    """The path of a pinned file, downloaded if need be."""
    return lambda file: fetch(file, CACHE, lambda _: None)


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The path of a network built in this session, by name; networks without a recipe have random weights."""
    repository = tmp_path_factory.mktemp("repository")

    def build(name: str) -> Path:
        path = networks.artifact(name, repository)
        if path.is_file():
            return path
        if name in default_profile.RECIPES:
            default_profile.build(default_profile.RECIPES[name], repository, CACHE, lambda _: None)
        elif name in networks.GROUPS["sam2"]:
            narrow_sam2.write_checkpoint(repository / "narrow.pt")
            narrow_sam2.build(repository, repository / "narrow.pt")
        else:
            # As wide as it takes for weights to be more than the graph.
            [export] = u2net.exports(write_isnet(repository / "isnet.onnx", width=64), name)
            write_network(export.template, path, export.weights)
        return path

    return build


@pytest.fixture(scope="session")
def tiny_checkpoint(
    published: Callable[[PinnedFile], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The folder of the tiny checkpoint of a tier, "sdxl" or "sd15"; not to be written to."""

    @lru_cache
    def write(tier: str) -> Path:
        folder = tmp_path_factory.mktemp(f"tiny_{tier}")
        write_tiny_checkpoint(tier, folder, read_published(published(CLIP_VOCABULARY)))
        return folder

    return write


@pytest.fixture(scope="session")
def default_checkpoint(tiny_checkpoint: Callable[[str], Path]) -> Callable[[str], Path]:
    """The folder of the checkpoint that the default build of a tier is of; not to be written to."""
    return lambda tier: compact_checkpoint.FOLDER if tier == "sdxl" else tiny_checkpoint(tier)


@pytest.fixture(scope="session")
def reference(default_checkpoint: Callable[[str], Path]) -> Callable[[str], Any]:
    """diffusers' own inpainting pipeline on the default checkpoint of a tier."""

    @lru_cache
    def load(tier: str) -> Any:
        kind = StableDiffusionXLInpaintPipeline if tier == "sdxl" else StableDiffusionInpaintPipeline
        pipeline = kind.from_pretrained(str(default_checkpoint(tier)), dtype=torch.float32)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    return load


@pytest.fixture(scope="session")
def open_session() -> Callable[[Path], onnxruntime.InferenceSession]:
    """A file's onnxruntime session on the CPU."""
    options = onnxruntime.SessionOptions()
    # Memory patterns cost the encoder half a gigabyte at a batch of 4, and these tests no time.
    options.enable_mem_pattern = False
    return lambda path: onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Many small operations: with a thread a core torch takes three times as long, waiting for itself."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def photo() -> Callable[[str], Image.Image]:
    """A photo of demo/photos, by name."""
    return lambda name: Image.open(ROOT / "demo" / "photos" / f"{name}.jpg").convert("RGB")


@pytest.fixture(scope="session")
def letterboxed(photo: Callable[[str], Image.Image]) -> dict[str, NDArray[np.uint8]]:
    """The photos scaled to a longest side of 1024, as SAM does before it pads: UINT8 [h,w,3]."""
    scaled = {}
    for name in PHOTOS:
        image = photo(name)
        scale = IMAGE_SIZE / max(image.size)
        size = (round(image.width * scale), round(image.height * scale))
        scaled[name] = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
    return scaled


@pytest.fixture(scope="session")
def sam_planes(letterboxed: dict[str, NDArray[np.uint8]]) -> dict[str, NDArray[np.float32]]:
    """The photos after SAM's published preprocessing (`Sam.preprocess`): FP32 [1,3,1024,1024]."""
    planes: dict[str, NDArray[np.float32]] = {}
    for name, pixels in letterboxed.items():
        height, width, _ = pixels.shape
        planes[name] = np.zeros((1, 3, IMAGE_SIZE, IMAGE_SIZE), np.float32)
        normalised = (pixels - np.array(PIXEL_MEAN, np.float32)) / np.array(PIXEL_STD, np.float32)
        planes[name][0, :, :height, :width] = normalised.transpose(2, 0, 1)
    return planes


@pytest.fixture(scope="session")
def embeddings(
    sam_planes: dict[str, NDArray[np.float32]],
    published: Callable[[PinnedFile], Path],
    open_session: Callable[[Path], onnxruntime.InferenceSession],
) -> dict[str, NDArray[np.float32]]:
    """The photos' embeddings by the published encoder: FP32 [1,256,64,64]."""
    session = open_session(published(MOBILE_SAM_ENCODER))
    return {name: session.run(None, {"input": planes})[0] for name, planes in sam_planes.items()}
