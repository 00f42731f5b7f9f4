"""A stand-in for Triton's utilities, beside which the adapters are imported."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.pb_utils import BLS, module


@pytest.fixture
def bls() -> BLS:
    return BLS()


@pytest.fixture
def utils(bls: BLS) -> Any:
    return module(bls)
