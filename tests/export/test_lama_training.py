"""Training the compact LaMa: what it draws, what it must not see, and that a stop costs nothing."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from nexus_export.errors import BuildError
from nexus_export.lama import load_checkpoint
from nexus_export.training.lama import Trainer, train
from nexus_export.training.lama_losses import (
    PatchDiscriminator,
    discriminator_loss,
    gradient_penalty,
    reconstruction,
)
from nexus_export.training.lama_masks import LARGEST_SHARE, boxes, outlines, random_mask, strokes, thin_lines
from nexus_export.training.lama_photos import HELD_OUT, Photo, load_photos, random_batch
from nexus_export.training.lama_schedule import Schedule
from nexus_export.training.lama_workers import Workers


def photo(seed: int, height: int = 90, width: int = 120) -> Photo:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height)).astype(np.uint8)


@pytest.mark.parametrize("draw", [strokes, boxes, outlines, thin_lines, random_mask])
def test_masks_are_binary_seeded_and_bounded(draw: object) -> None:
    assert callable(draw)
    masks = [draw(np.random.default_rng(seed), 64) for seed in range(40)]
    assert all(mask.shape == (64, 64) and set(np.unique(mask)) <= {0, 1} for mask in masks)
    assert np.array_equal(masks[3], draw(np.random.default_rng(3), 64))
    assert len({mask.tobytes() for mask in masks}) == 40
    if draw is random_mask:
        assert all(0 < mask.mean() <= LARGEST_SHARE for mask in masks)


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    photos = [photo(0), photo(1)]
    images, masks = random_batch(photos, seed=5, step=7, batch=3, size=32)
    assert (images.shape, masks.shape) == ((3, 32, 32, 3), (3, 32, 32, 1))
    again = random_batch(photos, seed=5, step=7, batch=3, size=32)
    assert np.array_equal(images, again[0])
    assert np.array_equal(masks, again[1])
    assert not np.array_equal(images, random_batch(photos, seed=5, step=8, batch=3, size=32)[0])


def test_held_out_photos_are_never_loaded(tmp_path: Path) -> None:
    for index, stem in enumerate((*HELD_OUT, "another")):
        cv2.imwrite(str(tmp_path / f"{stem}.png"), photo(index)[..., ::-1])
    loaded = load_photos([tmp_path])
    assert len(loaded) == 1
    assert np.array_equal(loaded[0], photo(len(HELD_OUT)))


def test_no_photo_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"^No photo .* --photos\.$"):
        load_photos([tmp_path])


def test_reconstruction_counts_the_hole_alone_and_its_edge_more() -> None:
    image = torch.zeros(1, 3, 4, 4)
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :1, :] = 1
    painted = mask * 0.5 + (1 - mask) * 0.25
    assert reconstruction(painted, image, mask) == pytest.approx(0.5)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 8:56, 8:56] = 1
    edge, deep = torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)
    edge[..., 8, 32] = deep[..., 32, 32] = 1
    # At the edge 8 of the 17 rows around are known: 8 / 17 + 0.2 against 0.2.
    ratio = reconstruction(edge, edge * 0, mask) / reconstruction(deep, deep * 0, mask)
    assert ratio == pytest.approx((8 / 17 + 0.2) / 0.2)


def test_untouched_patches_count_as_real() -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4, :4] = 1
    fake = torch.full((1, 1, 2, 2), 30.0)
    fake[..., 0, 0] = -30.0
    # softplus(-30) is 1e-13: every patch is judged rightly, the touched one fake, the others real.
    assert discriminator_loss(torch.full((1, 1, 2, 2), 30.0), fake, mask) < 1e-9


def test_gradient_penalty_is_the_squared_slope() -> None:
    discriminator = PatchDiscriminator(width=2)
    with torch.no_grad():
        for parameter in discriminator.parameters():
            parameter.zero_()
    assert gradient_penalty(discriminator, torch.rand(2, 3, 32, 32), torch.zeros(2, 1, 32, 32)) == 0


def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path) -> None:
    """Across the step where the discriminator joins."""
    schedule = Schedule(steps=4, batch=2, crop=32, adversarial_from=0.2, adversarial_ramp=0.2)
    photos = [photo(0), photo(1)]

    def trainer(folder: str) -> Trainer:
        (tmp_path / folder).mkdir(exist_ok=True)
        return Trainer(schedule, photos, tmp_path / folder, torch.device("cpu"), Workers())

    unbroken = trainer("unbroken")
    train(unbroken, save_minutes=60)
    broken = trainer("broken")
    for _ in range(2):
        broken.train_step()
    broken.save()
    resumed = trainer("broken")
    assert resumed.step == 2
    train(resumed, save_minutes=60)
    for name, tensor in unbroken.average.state.items():
        assert torch.equal(tensor, resumed.average.state[name]), name
    exported = load_checkpoint(tmp_path / "unbroken" / "lama_compact.safetensors")
    # FP16 storage of weights below 2: half of its spacing there is 2 ** -11.
    weight = exported.state_dict()["model.1.ffc.convl2l.weight"]
    torch.testing.assert_close(
        weight, unbroken.average.state["model.1.ffc.convl2l.weight"], atol=2**-11, rtol=0
    )
    assert sorted(path.name for path in (tmp_path / "unbroken" / "samples").iterdir()) == ["000004.png"]
