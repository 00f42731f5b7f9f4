"""Properties of the schedulers alone; tests/export compares them with diffusers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from nexus_ensembles.diffusion.noise_schedule import TRAINING_SIGMAS
from nexus_ensembles.diffusion.schedulers import SCHEDULERS, Scheduler, make_scheduler
from nexus_ensembles.errors import BadInput

Float32 = npt.NDArray[np.float32]
Predict = Callable[[Float32, float], Float32]

DETERMINISTIC = tuple(name for name in SCHEDULERS if name != "lcm" and "ancestral" not in name)
# Fifty float32 steps (epsilon 1.2e-7) on latents up to 15 times as large as the result.
FLOAT32_TOLERANCE = 2e-5


def gaussian(seed: int, size: int = 1000) -> Float32:
    return np.random.default_rng(seed).standard_normal(size, dtype=np.float32)


def drawing(seed: int, size: int = 1000) -> Callable[[], Float32]:
    """A source of fresh noise."""
    generator = np.random.default_rng(seed)
    return lambda: generator.standard_normal(size, dtype=np.float32)


def sample(scheduler: Scheduler, predict: Predict, latents: Float32, seed: int = 5) -> Float32:
    """Take all steps; `predict` is given the latents as image + sigma * noise, and sigma."""
    draw = drawing(seed, latents.size)
    for index, sigma in enumerate(scheduler.sigmas[:-1]):
        exploding = scheduler.scale(latents, index) * math.hypot(1, sigma)
        prediction = predict(exploding, sigma)
        latents = scheduler.step(prediction, index, latents, draw).latents
    return latents


def expecting(image: Float32) -> Predict:
    """The perfect network where the data is one image."""
    return lambda latents, sigma: (latents - image) / np.float32(sigma)


def of_gaussian_data(std: float) -> Predict:
    """The perfect network where the data is N(0, std**2)."""
    return lambda latents, sigma: latents * np.float32(sigma / (std**2 + sigma**2))


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("steps", [2, 7, 50])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_perfect_network_is_followed_to_its_image(name: str, steps: int, strength: float) -> None:
    image, noise = gaussian(1), gaussian(2)
    scheduler = make_scheduler(name, steps, strength)
    start = scheduler.start(noise, image)
    expected = image
    if name == "ddim":  # which ends at the little noise of timestep 0: the direction of the start, kept
        first, last = scheduler.sigmas[0], scheduler.sigmas[-1]
        direction = (start * math.hypot(1, first) - image) / first
        expected = (image + last * direction) / math.hypot(1, last)
    latents = sample(scheduler, expecting(image), start)
    np.testing.assert_allclose(latents, expected, rtol=0, atol=FLOAT32_TOLERANCE)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_step_returns_the_image_it_expects(name: str) -> None:
    image = gaussian(1)
    scheduler = make_scheduler(name, 20, 0.8)
    latents = scheduler.start(gaussian(2), image)
    prediction = gaussian(2)  # the very noise that was added
    # lcm mixes in 2e-7 of the latents, or 3e-6 at timestep 19
    tolerance = 1e-4 if name == "lcm" else FLOAT32_TOLERANCE
    step = scheduler.step(prediction, 0, latents, lambda: gaussian(3))
    np.testing.assert_allclose(step.denoised, image, rtol=0, atol=tolerance)
    assert latents.dtype == scheduler.scale(latents, 0).dtype == np.float32
    assert step.latents.dtype == step.denoised.dtype == np.float32


def flow_error(name: str, steps: int) -> float:
    """How far the end is from the exact probability flow of data N(0, 0.25), relative to that."""
    std = 0.5
    scheduler = make_scheduler(name, steps, 1.0)
    start = scheduler.start(gaussian(1))
    first, last = scheduler.sigmas[0], scheduler.sigmas[-1]
    exploding = scheduler.scale(start, 0) * math.hypot(1, first)
    exact = exploding * math.sqrt((std**2 + last**2) / (std**2 + first**2))
    end = sample(scheduler, of_gaussian_data(std), start)
    return float(np.abs(end - exact).max() / np.abs(exact).max())


@pytest.mark.parametrize("name", ["euler", "euler_karras", "ddim"])
def test_methods_of_first_order_halve_their_error_with_twice_the_steps(name: str) -> None:
    assert flow_error(name, 20) / flow_error(name, 40) == pytest.approx(1.9, abs=0.2)  # measured 1.83 to 1.87


def test_dpmpp_is_of_second_order() -> None:
    assert flow_error("dpmpp_2m_karras", 20) / flow_error("dpmpp_2m_karras", 40) > 4  # 7.9 measured
    assert flow_error("dpmpp_2m_karras", 20) < flow_error("euler_karras", 20) / 5  # 6.1 measured


@pytest.mark.parametrize("name", ["euler_ancestral", "euler_ancestral_karras"])
def test_ancestral_sampling_keeps_the_spread_of_the_data(name: str) -> None:
    scheduler = make_scheduler(name, 150, 1.0)
    end = sample(scheduler, of_gaussian_data(0.5), scheduler.start(gaussian(1, 40_000)))
    # a method of first order: 150 steps lose 3.5 % of it, or 1.9 % with Karras sigmas; 40,000 draws know it to 0.4 %
    assert end.std() == pytest.approx(0.5, rel=0.045)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_network_sees_latents_of_variance_1(name: str) -> None:
    scheduler = make_scheduler(name, 20, 0.8)
    noised = scheduler.start(gaussian(2, 40_000), gaussian(1, 40_000))
    assert scheduler.scale(noised, 0).std() == pytest.approx(1, rel=0.02)  # 40,000 draws: 0.4 %
    pure = make_scheduler(name, 20, 1.0)
    start = pure.start(gaussian(2))
    np.testing.assert_allclose(pure.scale(start, 0), gaussian(2), rtol=1e-6)
    np.testing.assert_array_equal(
        pure.start(gaussian(2), gaussian(1)), start
    )  # at strength 1 the image has no part


def test_the_timesteps_are_the_published_ones() -> None:
    expected = {
        "euler": [751, 501, 251, 1],
        "euler_ancestral": [751, 501, 251, 1],
        "dpmpp_2m": [801, 601, 401, 201],
        "ddim": [751, 501, 251, 1],
        "lcm": [999, 759, 499, 259],
    }
    for name, timesteps in expected.items():
        assert make_scheduler(name, 4, 1.0).timesteps.tolist() == timesteps
        assert make_scheduler(name, 4, 0.5).timesteps.tolist() == timesteps[2:]


@pytest.mark.parametrize("name", ["euler", "euler_ancestral"])
def test_karras_sigmas_share_the_ends_and_are_even_in_the_seventh_root(name: str) -> None:
    plain, karras = make_scheduler(name, 20, 1.0), make_scheduler(f"{name}_karras", 20, 1.0)
    assert karras.sigmas[0] == pytest.approx(plain.sigmas[0], rel=1e-6)
    assert karras.sigmas[-2] == pytest.approx(plain.sigmas[-2], rel=1e-6)
    assert karras.timesteps[[0, -1]].tolist() == pytest.approx(plain.timesteps[[0, -1]].tolist(), abs=1e-3)
    gaps = np.diff(np.array(karras.sigmas[:-1]) ** (1 / 7))
    np.testing.assert_allclose(gaps, gaps[0], rtol=1e-5)


def test_karras_sigmas_of_dpmpp_span_the_training_schedule() -> None:
    sigmas = make_scheduler("dpmpp_2m_karras", 20, 1.0).sigmas
    assert sigmas[0] == pytest.approx(TRAINING_SIGMAS[-1], rel=1e-6)
    assert sigmas[-2] == pytest.approx(TRAINING_SIGMAS[0], rel=1e-6)
    assert sigmas[-1] == 0


def test_ddim_ends_at_the_noise_of_timestep_0_and_all_others_at_none() -> None:
    ends = {name: make_scheduler(name, 20, 1.0).sigmas[-1] for name in SCHEDULERS}
    assert ends == {**dict.fromkeys(SCHEDULERS, 0.0), "ddim": float(TRAINING_SIGMAS[0])}


def test_the_training_schedule_has_its_published_ends() -> None:
    # 14.6146 and 0.0292 are the figures that k-diffusion and its heirs print for Stable Diffusion
    assert TRAINING_SIGMAS[[0, -1]].tolist() == pytest.approx([0.0292, 14.6146], abs=5e-5)


@pytest.mark.parametrize(
    ("name", "draws"),
    [
        ("euler_ancestral", 4),
        ("euler_ancestral_karras", 4),
        ("lcm", 3),
        *((name, 0) for name in DETERMINISTIC),
    ],
)
def test_noise_is_drawn_once_a_step_or_never(name: str, draws: int) -> None:
    scheduler, drawn = make_scheduler(name, 4, 1.0), 0

    def draw() -> Float32:
        nonlocal drawn
        drawn += 1
        return gaussian(drawn)

    latents = scheduler.start(gaussian(1))
    for index in range(4):
        latents = scheduler.step(latents, index, latents, draw).latents
    assert drawn == draws


@pytest.mark.parametrize("name", SCHEDULERS)
def test_requests_do_not_touch_one_another(name: str) -> None:
    """Two requests taken step by step in turn end, byte for byte, as each does alone."""
    network = of_gaussian_data(0.5)
    alone = [sample(make_scheduler(name, 8, 1.0), network, gaussian(seed), seed) for seed in (1, 2)]
    schedulers = [make_scheduler(name, 8, 1.0) for _ in alone]
    draws = [drawing(seed) for seed in (1, 2)]
    latents = [gaussian(seed) for seed in (1, 2)]
    for index, sigma in enumerate(schedulers[0].sigmas[:-1]):
        for request, scheduler in enumerate(schedulers):
            prediction = network(scheduler.scale(latents[request], index) * math.hypot(1, sigma), sigma)
            latents[request] = scheduler.step(prediction, index, latents[request], draws[request]).latents
    for one, other in zip(alone, latents):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("name", SCHEDULERS)
def test_start_begins_again(name: str) -> None:
    """In the middle of a fill, when the second tier takes over."""
    network, noise, image = of_gaussian_data(0.5), gaussian(2), gaussian(1)
    scheduler = make_scheduler(name, 9, 0.8)
    expected = sample(scheduler, network, scheduler.start(noise, image))
    latents = scheduler.start(noise, image)
    for index in range(4):
        latents = scheduler.step(latents, index, latents, drawing(7)).latents
    assert sample(scheduler, network, scheduler.start(noise, image)).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("steps", "strength", "remaining"),
    [(30, 0.8, 24), (30, 1.0, 30), (20, 0.3, 6), (4, 0.3, 1), (1, 1.0, 1), (50, 0.999, 49), (150, 0.01, 1)],
)
@pytest.mark.parametrize("name", SCHEDULERS[:-1])
def test_strength_leaves_the_last_steps(name: str, steps: int, strength: float, remaining: int) -> None:
    whole, part = make_scheduler(name, steps, 1.0), make_scheduler(name, steps, strength)
    np.testing.assert_array_equal(part.timesteps, whole.timesteps[-remaining:])
    assert part.sigmas == whole.sigmas[-remaining - 1 :]
    assert len(part.timesteps) == remaining
    assert part.timesteps.dtype == np.float32
    assert part.starts_from_noise == (strength == 1)


@pytest.mark.parametrize(
    ("name", "steps", "strength", "sentence"),
    [
        (
            "euler",
            30,
            0.02,
            "30 steps at a strength of 0.02 leave no step to take; raise the steps or the strength.",
        ),
        ("lcm", 4, 0.0, "4 steps at a strength of 0 leave no step to take; raise the steps or the strength."),
        ("lcm", 51, 1.0, "lcm takes at most 50 steps, not 51; 4 to 8 are enough."),
        (
            "plms",
            30,
            0.8,
            "there is no such scheduler; it must be one of euler, euler_karras, euler_ancestral, "
            "euler_ancestral_karras, dpmpp_2m, dpmpp_2m_karras, ddim, lcm.",
        ),
    ],
)
def test_what_cannot_be_sampled(name: str, steps: int, strength: float, sentence: str) -> None:
    with pytest.raises(BadInput) as caught:
        make_scheduler(name, steps, strength)
    assert str(caught.value) == sentence
