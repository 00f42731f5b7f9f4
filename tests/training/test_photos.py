"""Which photos are trained on."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from nexus_export.errors import BuildError
from nexus_training.photos import DEMO_NAMES, HELD_OUT, load_held_out, load_photos

from tests.training.support.photos import coarse_photo, muted_photo


def test_held_out_photos_are_never_loaded(tmp_path: Path) -> None:
    for index, stem in enumerate((*HELD_OUT, "another")):
        cv2.imwrite(str(tmp_path / f"{stem}.png"), coarse_photo(index)[..., ::-1])
    loaded = load_photos([tmp_path])
    assert len(loaded) == 1
    assert np.array_equal(loaded[0], coarse_photo(len(HELD_OUT)))


def test_validation_photos_are_not_trained_on(tmp_path: Path) -> None:
    for folder, stems in (("photos", ("lawn", "wall")), ("validation", ("wall",))):
        (tmp_path / folder).mkdir()
        for stem in stems:
            cv2.imwrite(str(tmp_path / folder / f"{stem}.png"), coarse_photo(ord(stem[0]))[..., ::-1])
    assert len(load_photos([tmp_path / "photos", tmp_path / "validation"])) == 3
    (left,) = load_photos([tmp_path / "photos"], excluding=[tmp_path / "validation"])
    assert np.array_equal(left, coarse_photo(ord("l")))


def test_no_photo_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"^No photo .* --photos\.$"):
        load_photos([tmp_path])


def test_held_out_photos_are_told_apart_by_name(tmp_path: Path) -> None:
    for index, stem in enumerate((*HELD_OUT, *DEMO_NAMES, "another")):
        cv2.imwrite(str(tmp_path / f"{stem}.png"), muted_photo(index)[..., ::-1])
    (tmp_path / "twice").mkdir()
    cv2.imwrite(str(tmp_path / "twice" / "coffee.png"), muted_photo(1)[..., ::-1])
    trained, held_out = load_photos([tmp_path]), load_held_out([tmp_path])
    assert [picture.tobytes() for picture in trained] == [muted_photo(12).tobytes()]
    assert {picture.tobytes() for picture in held_out} == {
        muted_photo(index).tobytes() for index in range(12)
    }
    assert len(held_out) == 12
    with pytest.raises(BuildError, match=r"^No held-out photo found"):
        load_held_out([tmp_path / "nowhere"])
