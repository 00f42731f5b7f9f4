"""The blocking client's way to run coroutines."""

from __future__ import annotations

import asyncio

import pytest
from nexus_client._blocking import finish


def test_a_blocking_call_that_suspends_is_a_bug_of_the_client() -> None:
    with pytest.raises(RuntimeError, match="suspended"):
        finish(asyncio.sleep(0))
