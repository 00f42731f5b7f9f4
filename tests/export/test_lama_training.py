"""Training the compact LaMa: what it draws, what it must not see, and that a stop costs nothing."""

from pathlib import Path

import cv2
import nexus_export
import numpy as np
import pytest
import torch
from nexus_export.errors import BuildError
from nexus_export.lama.checkpoint import load_checkpoint
from nexus_export.lama.generator import OUT_CHANNELS
from nexus_export.quality.metrics import ssim
from nexus_export.training import lama_spectrum
from nexus_export.training.lama import Trainer, train
from nexus_export.training.lama_balance import GradientBalance
from nexus_export.training.lama_bank import Bank
from nexus_export.training.lama_losses import (
    PatchDiscriminator,
    discriminator_loss,
    feature_matching,
    gradient_penalty,
    reconstruction,
    structure,
)
from nexus_export.training.lama_masks import (
    LARGEST_SHARE,
    LEAST_SHARE,
    boxes,
    outlines,
    random_mask,
    strokes,
    thin_lines,
)
from nexus_export.training.lama_photos import HELD_OUT, Photo, load_photos
from nexus_export.training.lama_report import Report
from nexus_export.training.lama_schedule import Schedule
from nexus_export.training.lama_spectrum import hole_spectrum_error, local_power, spectral
from nexus_export.training.lama_textures import KINDS, random_texture
from nexus_export.training.lama_workers import Workers

CPU = torch.device("cpu")


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
        assert all(LEAST_SHARE <= mask.mean() <= LARGEST_SHARE for mask in masks)


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    photos = [photo(0), photo(1)]
    bank, again = (Bank(photos, seed=5, crops=10, size=32, device=CPU) for _ in range(2))
    assert (bank.crops.shape, bank.masks.shape) == ((10, 32, 32, 3), (2, 32, 32, 1))
    images, masks = bank.batch(step=7, batch=3)
    assert (images.shape, masks.shape) == ((3, 3, 32, 32), (3, 1, 32, 32))
    assert 0.0 <= images.min() < images.max() <= 1.0
    assert ((masks == 0) | (masks == 1)).all()
    for first, second in zip((images, masks), again.batch(step=7, batch=3)):
        assert torch.equal(first, second)
    assert not torch.equal(images, bank.batch(step=8, batch=3)[0])


def test_textures_are_seeded_and_have_contrast() -> None:
    for draw in KINDS:
        first, second = (draw(np.random.default_rng(3), 64) for _ in range(2))
        assert first.shape == (64, 64, 3)
        assert np.array_equal(first, second)
    drawn = [random_texture(np.random.default_rng(seed), 64) for seed in range(20)]
    # A few draws may mix two like colours; most must have something to continue.
    assert sum(texture.std() > 5 for texture in drawn) > 14


def test_white_noise_has_its_variance_in_every_bin() -> None:
    grey = torch.randn(64, 1, 64, 64, generator=torch.Generator().manual_seed(0)).expand(-1, 3, -1, -1) * 0.1
    for sectors in (1, 4):
        power = local_power(grey, 16, 8, sectors).mean((0, 1))
        # The lowest rings lose to the subtracted mean and mix with it through the window.
        torch.testing.assert_close(power[-1], torch.tensor(0.01), rtol=0.05, atol=0)


def test_spectrum_errors_see_blur_and_forgive_other_noise() -> None:
    draw = torch.Generator().manual_seed(0)
    truth, other = (torch.rand(2, 3, 64, 64, generator=draw) for _ in range(2))
    mask = torch.zeros(2, 1, 64, 64)
    mask[..., 8:56, 8:56] = 1
    blurred = torch.full_like(truth, 0.5) * mask + truth * (1 - mask)
    fresh = other * mask + truth * (1 - mask)
    assert hole_spectrum_error(truth, truth, mask).tolist() == [0.0, 0.0]
    # Uniform noise of a third of the channels' variance against the floor of one level: about 30 dB.
    assert hole_spectrum_error(blurred, truth, mask).min() > 20
    assert hole_spectrum_error(fresh, truth, mask).max() < 2
    assert spectral(fresh, truth, mask) < 0.3 * spectral(blurred, truth, mask)
    thin = torch.zeros(2, 1, 64, 64)
    thin[..., 8:12, :] = 1
    assert hole_spectrum_error(blurred, truth, thin).isnan().all()


def test_power_has_to_be_right_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the truth is ten times as loud: even noise as quiet as the rest is right in the median patch."""
    noise = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 0.01
    loud = torch.ones(1, 1, 128, 128)
    loud[..., :32] = 10.0
    truth, quiet = 0.5 + noise[:1] * loud, 0.5 + noise[1:]
    even = 0.5 + noise[1:] * loud.square().mean().sqrt()
    hole, served = torch.ones(1, 1, 128, 128), lama_spectrum.WHOLE

    def prefers_quiet(whole: float) -> bool:
        monkeypatch.setattr(lama_spectrum, "WHOLE", whole)
        return bool(spectral(quiet, truth, hole) < spectral(even, truth, hole))

    assert prefers_quiet(0.0)
    assert not prefers_quiet(served)


def test_balance_scales_every_gradient_to_its_share() -> None:
    painted = torch.ones(1, 1, 2, 2, requires_grad=True)
    losses = {"reconstruction": 3 * painted[0, 0, 0].sum(), "adversarial": 1e-4 * painted[0, 0, 1].sum()}
    gradient = GradientBalance().combine(losses, {"adversarial": 0.5}, painted)
    torch.testing.assert_close(gradient[0, 0], torch.tensor([[3.0, 3.0], [1.5, 1.5]]))


def test_matching_counts_where_the_hole_reaches() -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4, :4] = 1
    real, fake = torch.zeros(1, 5, 2, 2), torch.full((1, 5, 2, 2), 7.0)
    fake[..., 0, 0] = 0.25
    assert feature_matching([real], [fake], mask) == 0.25


def test_held_out_photos_are_never_loaded(tmp_path: Path) -> None:
    for index, stem in enumerate((*HELD_OUT, "another")):
        cv2.imwrite(str(tmp_path / f"{stem}.png"), photo(index)[..., ::-1])
    loaded = load_photos([tmp_path])
    assert len(loaded) == 1
    assert np.array_equal(loaded[0], photo(len(HELD_OUT)))


def test_validation_photos_are_not_trained_on(tmp_path: Path) -> None:
    for folder, stems in (("photos", ("lawn", "wall")), ("validation", ("wall",))):
        (tmp_path / folder).mkdir()
        for stem in stems:
            cv2.imwrite(str(tmp_path / folder / f"{stem}.png"), photo(ord(stem[0]))[..., ::-1])
    assert len(load_photos([tmp_path / "photos", tmp_path / "validation"])) == 3
    (left,) = load_photos([tmp_path / "photos"], besides=[tmp_path / "validation"])
    assert np.array_equal(left, photo(ord("l")))


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


def test_structure_is_one_minus_the_ssim_of_the_hole() -> None:
    draw = torch.Generator().manual_seed(0)
    truth = torch.rand(1, 1, 48, 48, generator=draw)
    filled = (truth + 0.3 * torch.rand(truth.shape, generator=draw)).clamp(0, 1)
    truth[..., 0, 0] = 1.0  # the other implementation's range is the largest value
    mask = torch.zeros(1, 1, 48, 48)
    mask[..., 5:43, 5:43] = 1  # where its window lies wholly inside the picture
    expected = 1 - ssim(truth[0, 0].numpy(), filled[0, 0].numpy())
    assert structure(filled, truth, mask) == pytest.approx(expected, abs=1e-4)
    assert structure(truth, truth, mask) == pytest.approx(0, abs=1e-6)


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
    """Across the steps where the discriminator joins and the norms stop."""
    schedule = Schedule(steps=4, batch=2, crop=32, adversarial_from=0.2, adversarial_ramp=0.2)
    photos = [photo(0), photo(1)]
    bank, report = Bank(photos, 0, 10, 32, CPU), Report(photos, 32, CPU)

    def trainer(folder: str) -> Trainer:
        (tmp_path / folder).mkdir(exist_ok=True)
        return Trainer(schedule, bank, report, tmp_path / folder, CPU, Workers())

    unbroken = trainer("unbroken")
    train(unbroken, save_minutes=60)
    broken = trainer("broken")
    for _ in range(2):
        broken.train_step()
    broken.save()
    resumed = trainer("broken")
    assert resumed.step == 2
    train(resumed, save_minutes=60)
    averages = [trainer.average.module.state_dict() for trainer in (unbroken, resumed)]
    for name, tensor in averages[0].items():
        assert torch.equal(tensor, averages[1][name]), name
    exported = load_checkpoint(tmp_path / "unbroken" / "lama_compact.safetensors")
    # FP16 storage of weights below 2: half of its spacing there is 2 ** -11.
    weight = exported.state_dict()["model.1.ffc.convl2l.weight"]
    torch.testing.assert_close(weight, averages[0]["model.1.ffc.convl2l.weight"], atol=2**-11, rtol=0)
    assert (tmp_path / "unbroken" / "lama_reconstruction.safetensors").exists()
    sheet = cv2.imread(str(tmp_path / "unbroken" / "sheet.jpg"))
    assert sheet is not None
    assert sheet.shape == (8 * 32, 4 * 32, 3)


def test_a_run_begins_from_given_weights(tmp_path: Path) -> None:
    weights = Path(nexus_export.__file__).parent / "weights" / "lama_compact.safetensors"
    bank, report = Bank([photo(0)], 0, 5, 32, CPU), Report([photo(0)], 32, CPU)
    trainer = Trainer(Schedule(batch=1, crop=32), bank, report, tmp_path, CPU, Workers(), weights)
    given = load_checkpoint(weights).state_dict()
    assert all(
        torch.equal(tensor, given[name]) for name, tensor in trainer.average.module.state_dict().items()
    )


def test_texture_is_paid_for_by_the_grain_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The spectral loss must not reach the correction, which would draw texture as a grid of dots."""
    bank, report = Bank([photo(0)], 0, 5, 32, CPU), Report([photo(0)], 32, CPU)

    def gradient(share: float) -> torch.Tensor:
        schedule = Schedule(steps=100, batch=2, crop=32, grain_share=share)
        (folder := tmp_path / str(share)).mkdir()
        trainer = Trainer(schedule, bank, report, folder, CPU, Workers())
        # A step would drop the gradients.
        monkeypatch.setattr(trainer.generator_optimiser, "step", lambda *_rates: None)
        trainer.train_step()
        found = trainer.generator.model[-1].bias.grad
        assert isinstance(found, torch.Tensor)
        share_of_correction: torch.Tensor = found / found[:OUT_CHANNELS].norm()
        return share_of_correction

    with_texture, without = gradient(1.0), gradient(0.0)
    torch.testing.assert_close(with_texture[:OUT_CHANNELS], without[:OUT_CHANNELS], rtol=1e-4, atol=1e-5)
    assert (without[OUT_CHANNELS:] == 0).all()
    assert (with_texture[OUT_CHANNELS:] != 0).any()


def test_a_timed_run_follows_the_same_course() -> None:
    timed, counted = Schedule(minutes=2.0), Schedule(steps=100, adversarial_from=0.2)
    assert timed.done(step=7, trained_seconds=60.0) == counted.done(step=50, trained_seconds=3.0) == 0.5
    assert timed.done(step=7, trained_seconds=130.0) == 1.0
    assert timed.rate(1000, 0.5) == counted.rate(1000, 0.5)
    assert [counted.adversarial(done) for done in (0.1, 0.2, 0.25, 0.9)] == [0, 0, pytest.approx(0.5), 1]
