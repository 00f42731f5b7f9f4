"""Captions and what they ask for."""

import numpy as np
import pytest
from nexus_training.sdxl.captions import (
    COLOURS,
    MATERIALS,
    SHAPES,
    UNCONDITIONAL,
    draw_wish,
    is_held_out,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_captions_name_what_is_drawn() -> None:
    rng = np.random.default_rng(3)
    wishes = [draw_wish(rng) for _ in range(2000)]
    named = [wish for wish in wishes if wish.shape >= 0 and wish.caption not in UNCONDITIONAL]
    assert len(named) > 900
    for one in named:
        words = one.caption.split()
        assert set(words) & set(list(SHAPES.values())[one.shape])
        stripped = one.caption.split(" on ")[0].split(" in front of ")[0].split()
        assert set(stripped) & set(COLOURS) <= {list(COLOURS)[one.colour]}
        material = MATERIALS[one.material]
        assert (material in stripped) == (material != "plain")
        if set(stripped) & set(COLOURS):
            assert not is_held_out(one.shape, one.colour, one.material)
    # The empty prompt means going on with the background.
    assert all(wish.shape < 0 and wish.scene < 0 for wish in wishes if wish.caption == "")
    asks_nothing = [wish for wish in wishes if wish.shape >= 0 and wish.caption in UNCONDITIONAL]
    # One in ten; three deviations of a binomial over some 1100 are 0.027.
    assert len(asks_nothing) / (len(asks_nothing) + len(named)) == pytest.approx(0.1, abs=0.027)
