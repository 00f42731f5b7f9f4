"""How a run's settings change over its course."""

from nexus_training.lama.schedule import Schedule


def test_a_timed_run_follows_the_same_course() -> None:
    timed, counted = Schedule(minutes=2.0), Schedule(steps=100)
    assert (
        timed.progress(step=7, trained_seconds=60.0) == counted.progress(step=50, trained_seconds=3.0) == 0.5
    )
    assert timed.progress(step=7, trained_seconds=130.0) == 1.0
    assert timed.learning_rate_at(1000, 0.5) == counted.learning_rate_at(1000, 0.5)
