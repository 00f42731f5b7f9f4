"""The waits of a `RetryPolicy`: their growth, their jitter, and which policies are refused."""

from __future__ import annotations

import pytest
from nexus_client import InvalidInput, RetryPolicy


def test_waits_double_up_to_the_maximum() -> None:
    policy = RetryPolicy(initial=0.5, maximum=3.0, multiplier=2.0)
    waits = policy.waits(lambda: 1.0)
    assert [next(waits) for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_jitter_is_full() -> None:
    draws = iter([0.0, 0.25, 0.5])
    waits = RetryPolicy(initial=1.0, maximum=8.0, multiplier=4.0).waits(lambda: next(draws))
    assert [next(waits) for _ in range(3)] == [0.0, 1.0, 4.0]


@pytest.mark.parametrize(
    "fields", [{"initial": 0}, {"initial": 3}, {"multiplier": 0.5}, {"maximum": float("nan")}]
)
def test_an_impossible_policy_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match="0 < initial <= maximum"):
        RetryPolicy(**fields)
