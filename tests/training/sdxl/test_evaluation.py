"""The rule that names colours."""

import numpy as np
import pytest
from nexus_training.sdxl.captions import COLOURS
from nexus_training.sdxl.evaluation.colour import (
    matches_colour,
    name_colours,
    object_colours,
    score_colour_rule,
)
from nexus_training.sdxl.photo_crops import PhotoCrops

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_rule_names_its_colours() -> None:
    paints = np.array(list(COLOURS.values()), np.float64) / 255
    assert name_colours(paints).tolist() == list(COLOURS)
    # Half as bright, like the side away from the light: hues stay.
    hues = [
        index for index, name in enumerate(COLOURS) if name in ("red", "yellow", "green", "blue", "purple")
    ]
    assert name_colours(0.5 * paints[hues])[1:].tolist() == ["yellow", "green", "blue", "purple"]


def test_the_rule_is_right_on_renders_and_rejects_other_colours(photos: PhotoCrops) -> None:
    correct, accepted = score_colour_rule(photos, seed=1, count=60)
    assert correct >= 0.9
    assert accepted <= 0.1
    assert not matches_colour("red", {})
    unpainted = np.full((8, 8, 3), 0.5)
    assert object_colours(unpainted, unpainted, np.ones((8, 8), np.bool_)) == {}
