"""Captions, and the contents they name."""

import numpy as np
import pytest
from nexus_training.sdxl.captions import COLOURS, MATERIALS, SHAPES, UNCONDITIONAL, is_held_out, sample_spec

pytestmark = pytest.mark.usefixtures("one_thread")


def test_captions_name_what_is_drawn() -> None:
    rng = np.random.default_rng(3)
    specs = [sample_spec(rng) for _ in range(2000)]
    named = [spec for spec in specs if spec.shape >= 0 and spec.caption not in UNCONDITIONAL]
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
    # The empty prompt asks for a continuation of the background.
    assert all(spec.shape < 0 and spec.scene < 0 for spec in specs if spec.caption == "")
    asks_nothing = [spec for spec in specs if spec.shape >= 0 and spec.caption in UNCONDITIONAL]
    # One in ten; three standard deviations of a binomial over about 1100 are 0.027.
    assert len(asks_nothing) / (len(asks_nothing) + len(named)) == pytest.approx(0.1, abs=0.027)
