"""How a run's settings change over its course."""

import pytest
from nexus_training.lama.schedule import Schedule
from nexus_training.runtime import Budget


def test_a_timed_run_follows_the_same_course() -> None:
    timed, counted = Budget(2.0, None, spent_seconds=60.0), Budget(2.0, 100, spent_seconds=3.0)
    # The clock of the timed one goes on; the 0.001 are 0.12 seconds.
    assert timed.fraction(7) == pytest.approx(counted.fraction(50), abs=0.001)
    assert counted.fraction(50) == 0.5
    assert Budget(2.0, None, spent_seconds=130.0).fraction(7) >= 1.0
    schedules = Schedule(minutes=2.0), Schedule(steps=100)
    assert schedules[0].learning_rate_at(1000, 0.5) == schedules[1].learning_rate_at(1000, 0.5)
