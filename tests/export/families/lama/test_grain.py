"""The noise whose amplitude LaMa gives."""

import torch
from nexus_export.families.lama.generator import OUT_CHANNELS
from nexus_export.families.lama.grain import BANDS, DIRECTIONS, EVEN, SIDE, grain, tile
from nexus_export.families.lama.network import COMPACT_CONFIG, complete

CPU = torch.device("cpu")


def test_every_band_is_its_own_and_of_unit_deviation() -> None:
    noise = tile(CPU).float()
    assert noise.shape == (1, BANDS, SIDE, SIDE)
    # FP16 has eleven bits; and torch divides by one less than there are.
    torch.testing.assert_close(noise.std((2, 3)), torch.ones(1, BANDS), atol=1e-3, rtol=0)
    power = torch.fft.fft2(noise[0]).abs().square()
    # No frequency belongs to two bands: all but rounding of the power at each is in the loudest one.
    assert (power.sum(0) - power.amax(0)).sum() < 1e-6 * power.sum()
    radius = torch.hypot(torch.fft.fftfreq(SIDE)[:, None], torch.fft.fftfreq(SIDE))
    for band, owned in enumerate(power):
        octave = band // DIRECTIONS
        below, above = radius < 0.5 / 2 ** (octave + 1) - 1e-6, radius > 0.5 / 2**octave + 1e-6
        outside = below if octave == 0 else below | above  # the corners go with the finest
        assert owned[outside].sum() < 1e-6 * owned.sum()


def test_noise_is_the_same_whatever_the_size() -> None:
    large = grain(torch.ones(1, BANDS, 2 * SIDE + 44, 3 * SIDE), tile(CPU))
    assert torch.equal(large[..., :64, :96], grain(torch.ones(1, BANDS, 64, 96), tile(CPU)))
    assert torch.equal(large[..., SIDE:], large[..., : 2 * SIDE])


def test_loudness_is_even() -> None:
    """One loud pixel spreads to a square of grain; uniform amplitude stays uniform at the edges."""
    amplitude = torch.zeros(1, BANDS, 40, 48)
    amplitude[:, 0, 20, 24] = 1.0
    expected = torch.zeros(1, 1, 40, 48)
    inside = (..., slice(20 - EVEN // 2, 21 + EVEN // 2), slice(24 - EVEN // 2, 25 + EVEN // 2))
    expected[inside] = (tile(CPU).float()[:, :1, :40, :48] / EVEN**2)[inside]
    torch.testing.assert_close(grain(amplitude, tile(CPU)), expected, atol=1e-6, rtol=0)
    ones = torch.ones(1, BANDS, 40, 48)
    torch.testing.assert_close(
        grain(ones, tile(CPU)), tile(CPU).float()[..., :40, :48].sum(1, keepdim=True), atol=1e-5, rtol=0
    )


def test_a_fill_is_correction_and_grain() -> None:
    def loud(x: torch.Tensor) -> torch.Tensor:
        output = torch.full((len(x), COMPACT_CONFIG.outputs, *x.shape[2:]), 0.0)
        output[:, 1], output[:, OUT_CHANNELS + 5] = 0.25, 0.1
        return output

    image, mask = torch.full((2, 3, 64, 64), 0.5), torch.ones(2, 1, 64, 64)
    painted = complete(loud, image, mask, pyramid=True)  # type: ignore[arg-type]
    change = painted - 0.5 - torch.tensor([0.0, 0.25, 0.0])[:, None, None]
    expected = (0.1 * tile(CPU).float()[0, 5, :64, :64]).expand(2, 3, -1, -1)
    torch.testing.assert_close(change, expected, atol=1e-6, rtol=0)
