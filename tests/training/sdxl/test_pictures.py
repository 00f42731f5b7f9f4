"""Pictures with objects: their contents, and where they may differ from the background."""

import numpy as np
import pytest
import torch
from nexus_training.sdxl.captions import COLOURS, MATERIALS, SHAPES, SceneSpec
from nexus_training.sdxl.evaluation.classifier import crop_to_mask
from nexus_training.sdxl.photo_crops import PhotoCrops
from nexus_training.sdxl.pictures import compose, make_pictures

pytestmark = pytest.mark.usefixtures("one_thread")


def spec(shape: str, colour: str, material: str = "plain") -> SceneSpec:
    indices = list(SHAPES).index(shape), list(COLOURS).index(colour), MATERIALS.index(material)
    return SceneSpec(*indices, scene=-1, size=0.8, caption="")


def compose_on_grey(specs: list[SceneSpec]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Objects on grey ground: pictures, masks and the pixels of each object (neither grey nor shadow)."""
    ground = torch.full((len(specs), 3, 256, 256), 0.6)
    pictures, field = compose(np.random.default_rng(0), specs, ground)
    coloured = (pictures.amax(1) - pictures.amin(1) > 0.1)[:, None]
    return pictures, (field < 0)[:, None], coloured


def test_a_red_ball_is_red_and_a_blue_one_blue() -> None:
    pictures, masks, objects = compose_on_grey([spec("ball", "red"), spec("ball", "blue", "matte")])
    for index, channel in enumerate((0, 2)):
        mean = pictures[index][:, objects[index, 0]].mean(1)
        others = [other for other in range(3) if other != channel]
        assert mean[channel] > 1.8 * mean[others].max()
        # A circle of radius 30 + 0.8 * 66; its antialiased edge is about half a percent of it.
        assert objects[index].sum() == pytest.approx(np.pi * 82.8**2, rel=0.02)
    assert not (objects & ~masks).any()


def test_nothing_outside_the_mask_changes_and_every_object_is_inside() -> None:
    specs = [spec(shape, "purple") for shape in SHAPES for _ in range(2)]
    pictures, masks, objects = compose_on_grey(specs)
    outside = pictures.masked_fill(masks, 0.6)
    assert torch.equal(outside, torch.full_like(outside, 0.6))
    assert (objects.sum((1, 2, 3)) > 2000).all()
    assert (masks.float().mean((1, 2, 3)) < 0.95).all()


def test_shapes_differ() -> None:
    """By their cropped silhouettes: a shape overlaps itself, drawn elsewhere, more than any other."""
    specs = [spec(shape, "green") for shape in SHAPES]
    pictures, _, objects = compose_on_grey(specs + specs)
    cropped = crop_to_mask(objects.float().expand_as(pictures), objects.float())[:, 0] > 0.5
    first, second = cropped[: len(SHAPES), None], cropped[None, len(SHAPES) :]
    overlap = (first & second).sum((2, 3)) / (first | second).sum((2, 3))
    off_diagonal = overlap[~torch.eye(len(SHAPES), dtype=torch.bool)]
    assert off_diagonal.max() < 0.95
    assert overlap.diagonal().mean() > off_diagonal.mean() + 0.1


def test_a_batch_depends_on_seed_and_step_alone(photos: PhotoCrops) -> None:
    first, again = (make_pictures(photos, 6, 1, 4) for _ in range(2))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.masks, again.masks)
    assert first.captions == again.captions
    assert set(np.unique(first.masks.numpy()).tolist()) == {0.0, 1.0}
    assert not torch.equal(first.images, make_pictures(photos, 6, 1, 5).images)
