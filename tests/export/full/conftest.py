"""Shared by the full-size tests: a longer timeout, and scratch folders that are removed afterwards."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

_FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Allow an hour a test: a network of 10 GB takes minutes where the others take seconds."""
    for item in items:
        if _FOLDER in item.path.parents:
            item.add_marker(pytest.mark.timeout(3600))


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A folder for files of gigabytes, removed after the test; pytest keeps `tmp_path` for a while."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.fixture(scope="module")
def module_scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """As `scratch`, for all tests of a module."""
    folder = tmp_path_factory.mktemp("scratch")
    yield folder
    shutil.rmtree(folder)
