"""A stand-in for Triton's utilities, beside which the adapters are imported."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.pb_utils import BLS, module

PACKAGE = "nexus_ensembles.triton"
# Its modules that import Triton's utilities.
ADAPTERS = [
    f"{PACKAGE}.{name}" for name in ("metrics", "networks", "pipeline", "signature", "streaming", "unary")
]


@pytest.fixture
def bls() -> BLS:
    return BLS()


@pytest.fixture
def utils(bls: BLS) -> Any:
    return module(bls)


@pytest.fixture
def adapter(utils: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Imports a module of nexus_ensembles.triton beside the stand-in, for one test."""
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utils)
    for name in ADAPTERS:  # set, then deleted: so that the test's own import is taken out again at its end
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, name)
    return lambda name: importlib.import_module(f"{PACKAGE}.{name}")
