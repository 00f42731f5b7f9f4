"""What the compact SDXL is shown in training, and the judge of its colours."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from nexus_export.errors import BuildError
from nexus_export.training.lama_photos import DEMO_NAMES, HELD_OUT, load_photos
from nexus_export.training.sdxl_captions import (
    COLOURS,
    MATERIALS,
    SCENES,
    SHAPES,
    UNCONDITIONAL,
    Wish,
    draw_wish,
    is_held_out,
)
from nexus_export.training.sdxl_classifier import cut_out
from nexus_export.training.sdxl_colour import judge_renders, name_colours, object_colours, shows
from nexus_export.training.sdxl_data import make_pictures, place
from nexus_export.training.sdxl_photos import PhotoCrops, load_held_out
from nexus_export.training.sdxl_scenes import paint_scene

from tests.export.muted_photos import muted_photo

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


def wish(shape: str, colour: str, material: str = "plain") -> Wish:
    indices = list(SHAPES).index(shape), list(COLOURS).index(colour), MATERIALS.index(material)
    return Wish(*indices, scene=-1, large=0.8, caption="")


def drawn(wishes: list[Wish]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The wishes on grey ground: pictures, masks and where each object stands (what is not grey, not shadow)."""
    ground = torch.full((len(wishes), 3, 256, 256), 0.6)
    pictures, field = place(np.random.default_rng(0), wishes, ground)
    coloured = (pictures.amax(1) - pictures.amin(1) > 0.1)[:, None]
    return pictures, (field < 0)[:, None], coloured


def test_a_red_ball_is_red_and_a_blue_one_blue() -> None:
    pictures, masks, objects = drawn([wish("ball", "red"), wish("ball", "blue", "matte")])
    for index, channel in enumerate((0, 2)):
        mean = pictures[index][:, objects[index, 0]].mean(1)
        others = [other for other in range(3) if other != channel]
        assert mean[channel] > 1.8 * mean[others].max()
        # A circle of radius 30 + 0.8 * 66: its edge of a pixel is a half percent of it or so.
        assert objects[index].sum() == pytest.approx(np.pi * 82.8**2, rel=0.02)
    assert not (objects & ~masks).any()


def test_nothing_outside_the_mask_changes_and_every_object_is_inside() -> None:
    wishes = [wish(shape, "purple") for shape in SHAPES for _ in range(2)]
    pictures, masks, objects = drawn(wishes)
    outside = pictures.masked_fill(masks, 0.6)
    assert torch.equal(outside, torch.full_like(outside, 0.6))
    assert (objects.sum((1, 2, 3)) > 2000).all()
    assert (masks.float().mean((1, 2, 3)) < 0.95).all()


def test_shapes_differ() -> None:
    """By their cut-out silhouettes: a shape overlaps itself, drawn at another place, more than any other."""
    wishes = [wish(shape, "green") for shape in SHAPES]
    pictures, _, objects = drawn(wishes + wishes)
    cut = cut_out(objects.float().expand_as(pictures), objects.float())[:, 0] > 0.5
    first, second = cut[: len(SHAPES), None], cut[None, len(SHAPES) :]
    overlap = (first & second).sum((2, 3)) / (first | second).sum((2, 3))
    off_diagonal = overlap[~torch.eye(len(SHAPES), dtype=torch.bool)]
    assert off_diagonal.max() < 0.95
    assert overlap.diagonal().mean() > off_diagonal.mean() + 0.1


def test_scenes_have_their_colours() -> None:
    painted = {name: paint_scene(name, 2, torch.Generator().manual_seed(0)) for name in SCENES}
    mean = {name: pictures.mean((0, 2, 3)) for name, pictures in painted.items()}
    assert all(mean[name].argmax() == 1 for name in ("grass", "leaves"))
    assert all(mean[name].argmax() == 2 for name in ("water", "sky"))
    assert all(mean[name].argmax() == 0 for name in ("sand", "bricks", "wood"))
    assert mean["snow"].min() > 0.7
    assert all(not torch.equal(*pictures) for pictures in painted.values())


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


def test_a_batch_depends_on_seed_and_step_alone(photos: PhotoCrops) -> None:
    first, again = (make_pictures(photos, 6, 1, 4) for _ in range(2))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.masks, again.masks)
    assert first.captions == again.captions
    assert set(np.unique(first.masks.numpy()).tolist()) == {0.0, 1.0}
    assert not torch.equal(first.images, make_pictures(photos, 6, 1, 5).images)


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
    with pytest.raises(BuildError, match=r"^None of the held-out photos was found"):
        load_held_out([tmp_path / "nowhere"])


def test_the_colour_judge_knows_its_colours() -> None:
    paints = np.array(list(COLOURS.values()), np.float64) / 255
    assert name_colours(paints).tolist() == list(COLOURS)
    # Half as bright, as on the side turned from the light: hues stay.
    hues = [
        index for index, name in enumerate(COLOURS) if name in ("red", "yellow", "green", "blue", "purple")
    ]
    assert name_colours(0.5 * paints[hues])[1:].tolist() == ["yellow", "green", "blue", "purple"]


def test_the_colour_judge_is_right_on_renders_and_rejects_other_colours(photos: PhotoCrops) -> None:
    right, passed = judge_renders(photos, seed=1, count=60)
    assert right >= 0.9
    assert passed <= 0.1
    assert not shows("red", {})
    unpainted = np.full((8, 8, 3), 0.5)
    assert object_colours(unpainted, unpainted, np.ones((8, 8), np.bool_)) == {}
