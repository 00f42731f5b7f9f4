"""Local spectra, as a loss and as a figure of quality."""

import pytest
import torch
from nexus_export.families.lama.grain import BANDS, DIRECTIONS, grain, tile
from nexus_training.lama import spectrum
from nexus_training.lama.spectrum import hole_spectrum_error, local_power, spectral_loss

CPU = torch.device("cpu")


def test_white_noise_has_its_variance_in_every_bin() -> None:
    grey = torch.randn(64, 1, 64, 64, generator=torch.Generator().manual_seed(0)).expand(-1, 3, -1, -1) * 0.1
    for sectors in (1, 4):
        power = local_power(grey, 16, 8, sectors).mean((0, 1))
        # The lowest rings lose power to the subtracted mean, with which the window mixes them.
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
    assert spectral_loss(fresh, truth, mask) < 0.3 * spectral_loss(blurred, truth, mask)
    thin = torch.zeros(2, 1, 64, 64)
    thin[..., 8:12, :] = 1
    assert hole_spectrum_error(blurred, truth, thin).isnan().all()


def test_power_has_to_be_right_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the truth has ten times the amplitude; uniform noise of the rest's is right in the median patch."""
    noise = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 0.01
    amplitude = torch.ones(1, 1, 128, 128)
    amplitude[..., :32] = 10.0
    truth, weak = 0.5 + noise[:1] * amplitude, 0.5 + noise[1:]
    even = 0.5 + noise[1:] * amplitude.square().mean().sqrt()
    hole, served = torch.ones(1, 1, 128, 128), spectrum.WHOLE_HOLE_WEIGHT

    def prefers_weak(whole: float) -> bool:
        monkeypatch.setattr(spectrum, "WHOLE_HOLE_WEIGHT", whole)
        return bool(spectral_loss(weak, truth, hole) < spectral_loss(even, truth, hole))

    assert prefers_weak(0.0)
    assert not prefers_weak(served)


def test_the_spectrum_in_every_direction_is_the_asked_one() -> None:
    """The sectors of the loss are those of the bands: a strong band has its power in its own sector."""
    amplitude = torch.zeros(DIRECTIONS, BANDS, 64, 64)
    for direction in range(DIRECTIONS):
        amplitude[direction, DIRECTIONS + direction] = 0.1  # the octave of 4 to 8 pixels
    power = local_power(grain(amplitude, tile(CPU)).expand(-1, 3, -1, -1), 32, 8, DIRECTIONS).mean(1)
    sectors = power.view(DIRECTIONS, -1, DIRECTIONS).sum(1)
    assert sectors.argmax(1).tolist() == list(range(DIRECTIONS))
    assert (sectors.amax(1) > 0.6 * sectors.sum(1)).all()
