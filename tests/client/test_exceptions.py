"""The tree of exceptions: as drawn, and across processes."""

from __future__ import annotations

import pickle
import re

import pytest
from nexus_client import DeadlineExceeded, InputNotFound, NexusError, OutOfMemory, Unavailable, exceptions


def exception_classes() -> list[type[NexusError]]:
    return [getattr(exceptions, name) for name in exceptions.__all__]


def test_the_tree_at_the_top_of_the_module_is_the_tree() -> None:
    drawn = re.findall(r"[├└]── (\w+)", exceptions.__doc__ or "")
    assert sorted([*drawn, "NexusError"]) == sorted(exceptions.__all__)
    assert all(issubclass(kind, NexusError) for kind in exception_classes())
    assert issubclass(InputNotFound, FileNotFoundError)
    assert issubclass(DeadlineExceeded, TimeoutError)
    assert issubclass(OutOfMemory, Unavailable)


@pytest.mark.parametrize("kind", exception_classes())
def test_exceptions_survive_pickling(kind: type[NexusError]) -> None:
    copy = pickle.loads(pickle.dumps(kind("one sentence")))
    assert type(copy) is kind
    assert str(copy) == "one sentence"


def test_attributes_survive_pickling() -> None:
    outage = pickle.loads(pickle.dumps(Unavailable("down", tries=3, seconds=1.5)))
    assert (outage.tries, outage.seconds) == (3, 1.5)
    assert pickle.loads(pickle.dumps(DeadlineExceeded("slow", timeout=2.0))).timeout == 2.0
