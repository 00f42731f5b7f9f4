"""The published vocabulary and photos for the training tests; files are downloaded once, into build/cache."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from nexus_export.downloads.packages import CLIP_VOCABULARY, fetch
from nexus_training.sdxl.photo_crops import PhotoCrops
from nexus_training.sdxl.tokenizer import Vocabulary

from tests.training.support.photos import muted_photo

CACHE = Path(__file__).parents[2] / "build" / "cache"


@pytest.fixture(scope="session")
def vocabulary_file() -> Path:
    """The path of CLIP's published vocabulary."""
    return fetch(CLIP_VOCABULARY, CACHE, lambda _: None)


@pytest.fixture(scope="session")
def vocabulary(vocabulary_file: Path) -> Vocabulary:
    return Vocabulary(vocabulary_file)


@pytest.fixture(scope="session")
def photos() -> PhotoCrops:
    """Crops to train the compact SDXL on, of one muted photo."""
    return PhotoCrops([muted_photo(0)], torch.device("cpu"))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Many small operations: with a thread a core torch takes three times as long, waiting for itself."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
