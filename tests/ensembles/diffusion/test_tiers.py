"""When a tier that was out of memory is left out, and when it is tried again."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from nexus_ensembles.diffusion.tiers import Breaker, Tier
from nexus_ensembles.errors import BadInput, NetworkFailed, OutOfMemory


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(10, clock)


def attempt(breaker: Breaker, error: type[BaseException] | None = None) -> bool:
    """Whether a request that ends with `error` may try the tier."""
    context = breaker.admit()
    if context is None:
        return False
    with suppress(BaseException), context:
        if error:
            raise error
    return True


def test_success_keeps_it_closed(breaker: Breaker) -> None:
    assert [attempt(breaker) for _ in range(5)] == [True] * 5


@pytest.mark.parametrize("error", [BadInput, NetworkFailed, GeneratorExit])
def test_other_errors_keep_it_closed(breaker: Breaker, error: type[BaseException]) -> None:
    attempt(breaker, error)
    assert attempt(breaker)


def test_out_of_memory_opens_it_for_the_cool_down(breaker: Breaker, clock: Clock) -> None:
    attempt(breaker, OutOfMemory)
    clock.seconds += 9.9
    assert not attempt(breaker)
    clock.seconds += 0.1
    assert attempt(breaker)  # the probe succeeds
    assert attempt(breaker)


def test_only_one_request_probes(breaker: Breaker, clock: Clock) -> None:
    attempt(breaker, OutOfMemory)
    clock.seconds += 10
    probe = breaker.admit()
    assert probe
    clock.seconds += 1000
    assert breaker.admit() is None
    with probe:
        assert breaker.admit() is None
    assert attempt(breaker)


def test_each_failed_probe_doubles_the_cool_down_up_to_ten_minutes(breaker: Breaker, clock: Clock) -> None:
    attempt(breaker, OutOfMemory)
    waits = []
    for _ in range(9):
        start = clock.seconds
        while not attempt(breaker, OutOfMemory):
            clock.seconds += 5
        waits.append(clock.seconds - start)
    assert waits == [10, 20, 40, 80, 160, 320, 600, 600, 600]


def test_after_a_recovery_the_cool_down_is_short_again(breaker: Breaker, clock: Clock) -> None:
    for _ in range(3):
        attempt(breaker, OutOfMemory)
        clock.seconds += 100
    assert attempt(breaker)
    attempt(breaker, OutOfMemory)
    clock.seconds += 10
    assert attempt(breaker)


@pytest.mark.parametrize("error", [GeneratorExit, BadInput])
def test_a_probe_that_ends_without_a_verdict_lets_the_next_one_probe(
    breaker: Breaker, clock: Clock, error: type[BaseException]
) -> None:
    attempt(breaker, OutOfMemory)
    clock.seconds += 10
    assert attempt(breaker, error)
    probe = breaker.admit()
    assert probe
    assert breaker.admit() is None


def test_requests_from_before_the_outage_count_for_nothing(breaker: Breaker, clock: Clock) -> None:
    early = [breaker.admit() for _ in range(3)]
    attempt(breaker, OutOfMemory)
    first, second, third = (context for context in early if context)
    with first:
        pass
    assert breaker.admit() is None  # a success that began earlier does not close it
    clock.seconds += 5
    with pytest.raises(OutOfMemory), second:
        raise OutOfMemory
    clock.seconds += 5
    probe = breaker.admit()
    assert probe  # nor did the failure prolong the cool-down
    with pytest.raises(OutOfMemory), third:
        raise OutOfMemory
    assert breaker.admit() is None  # the probe is still the only one


def test_facts_of_a_tier(tmp_path: Path) -> None:
    rows = [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12], [127, 127, 127]]
    facts = {"side": 512, "latent_rgb": rows, "random_weights": True}
    (tmp_path / "sd15.json").write_text(json.dumps(facts))
    tier = Tier.load(tmp_path, "sd15")
    assert (tier.name, tier.side, tier.random_weights, tier.is_sdxl) == ("sd15", 512, True, False)
    assert tier.latent_rgb.dtype == np.float32
    np.testing.assert_array_equal(tier.latent_rgb, rows)
