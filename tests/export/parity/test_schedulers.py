"""Every scheduler against diffusers' class of the same method, step for step."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
)
from diffusers.schedulers import scheduling_euler_ancestral_discrete, scheduling_lcm
from nexus_ensembles.diffusion.schedulers import SCHEDULERS, make_scheduler
from numpy.typing import NDArray

# scheduler_config.json of the published SDXL inpainting checkpoint; SD 1.5's has the same values, but for the spacing.
PUBLISHED_CONFIG = {
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "trained_betas": None,
    "use_karras_sigmas": False,
}
CLASSES = {
    "euler": EulerDiscreteScheduler,
    "euler_ancestral": EulerAncestralDiscreteScheduler,
    "dpmpp_2m": DPMSolverMultistepScheduler,
    "ddim": DDIMScheduler,
    "lcm": LCMScheduler,
}
SHAPE = (4, 8, 12)
# Both work in float32 (epsilon 1.2e-7) and do a few operations per value, in different orders, with sigmas that are up
# to 3e-7 apart: torch's own float32 linspace and square root differ by as much between CPUs.
# The worst measured is 7e-7.
STEP_TOLERANCE = 2e-6
# Fifty such steps, of a model that contracts. The worst measured is 9e-7.
WAY_TOLERANCE = 4e-6

# diffusers hands torch tensors to np.array, which numpy 2 remarks on
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def reference_scheduler(name: str, steps: int) -> Any:
    """Diffusers' scheduler, with its timesteps set."""
    method, karras = name.removesuffix("_karras"), name.endswith("_karras")
    if name != "euler_ancestral_karras":
        scheduler = CLASSES[method].from_config(PUBLISHED_CONFIG, use_karras_sigmas=karras)
        scheduler.set_timesteps(steps)
        return scheduler
    # diffusers' ancestral class has no Karras sigmas of its own; it is given those of the Euler class
    scheduler = reference_scheduler("euler_ancestral", steps)
    euler = reference_scheduler("euler_karras", steps)
    scheduler.sigmas, scheduler.timesteps = euler.sigmas, euler.timesteps
    return scheduler


def strength_start(scheduler: Any, steps: int, strength: float) -> int:
    """The index of the first step, as `get_timesteps` of diffusers' inpainting pipelines has it."""
    start = max(steps - min(int(steps * strength), steps), 0)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(start)
    return start


def predict(latents: NDArray[np.float32], timestep: float) -> NDArray[np.float32]:
    """A stand-in for a network: noise of about variance 1 that depends on all that a network is given."""
    rolled = np.roll(latents, 1, axis=-1)
    phase: NDArray[np.float32] = 3 * latents + rolled + np.float32(timestep / 100)
    return np.sin(phase) * np.float32(2**0.5)


def smooth(latents: NDArray[np.float32]) -> NDArray[np.float32]:
    """A contracting stand-in for a network, which does not amplify its input."""
    return np.tanh(latents)


def gaussian(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(SHAPE, dtype=np.float32)


def predicted_image(output: Any) -> NDArray[np.float32]:
    """The image latent that diffusers predicts at a step; its LCM calls it `denoised`."""
    tensor = output.denoised if hasattr(output, "denoised") else output.pred_original_sample
    image: NDArray[np.float32] = tensor.numpy()
    return image


def assert_timesteps(name: str, ours: NDArray[np.float32], theirs: NDArray[Any]) -> None:
    assert ours.dtype == np.float32
    if name in ("euler_karras", "euler_ancestral_karras"):
        # fractions, interpolated in a table of sigmas that are 3e-7 apart: 0.0001 of a timestep
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
    else:
        np.testing.assert_array_equal(ours, theirs)


def assert_close(
    ours: NDArray[np.float32], theirs: NDArray[np.float32], tolerance: float = STEP_TOLERANCE
) -> None:
    """No value further apart than `tolerance` of the largest."""
    worst = np.abs(ours - theirs).max() / np.abs(theirs).max()
    assert worst <= tolerance, f"{worst:.1e} apart"


@pytest.fixture
def noises(monkeypatch: pytest.MonkeyPatch) -> list[NDArray[np.float32]]:
    """The noise that diffusers drew, in order: fresh and recorded."""
    drawn: list[NDArray[np.float32]] = []

    def randn_tensor(shape: tuple[int, ...], **_: Any) -> torch.Tensor:
        drawn.append(gaussian(100 + len(drawn)))
        return torch.from_numpy(drawn[-1]).reshape(shape)

    for module in (scheduling_euler_ancestral_discrete, scheduling_lcm):
        monkeypatch.setattr(module, "randn_tensor", randn_tensor)
    return drawn


@pytest.mark.parametrize("strength", [0.3, 0.8, 1.0])
@pytest.mark.parametrize("steps", [4, 20, 50])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_step_is_diffusers(
    name: str, steps: int, strength: float, noises: list[NDArray[np.float32]]
) -> None:
    theirs = reference_scheduler(name, steps)
    begin = strength_start(theirs, steps, strength)
    ours = make_scheduler(name, steps, strength)
    timesteps = theirs.timesteps[begin:]
    assert_timesteps(name, ours.timesteps, timesteps.numpy())

    noise, image = gaussian(1), gaussian(2)
    if strength == 1.0:
        first = torch.from_numpy(noise) * theirs.init_noise_sigma
    else:
        # the one timestep stands for the whole batch axis
        first = theirs.add_noise(*torch.from_numpy(np.stack([image, noise]))[:, None], timesteps[:1])[0]
    assert_close(ours.start(noise, image), first.numpy())

    latents = first.numpy()
    for index, timestep in enumerate(timesteps):
        scaled = theirs.scale_model_input(torch.from_numpy(latents), timestep)
        assert_close(ours.scale(latents, index), scaled.numpy())
        prediction = predict(scaled.numpy(), float(timestep))
        drawn = len(noises)
        expected = theirs.step(torch.from_numpy(prediction), timestep, torch.from_numpy(latents))
        fresh = iter(noises[drawn:])
        step = ours.step(prediction, index, latents, fresh.__next__)
        assert next(fresh, None) is None, "it leaves noise that diffusers uses"
        assert step.latents.dtype == step.denoised.dtype == np.float32
        assert_close(step.latents, expected.prev_sample.numpy())
        if name not in ("dpmpp_2m", "dpmpp_2m_karras"):  # diffusers' DPM++ returns no predicted image
            assert_close(step.denoised, predicted_image(expected))
        latents = expected.prev_sample.numpy()  # so that each step is judged alone


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_whole_way_is_diffusers(name: str, noises: list[NDArray[np.float32]]) -> None:
    """Fifty steps, each from our own last: the errors of the steps do not add up to more."""
    theirs, ours = reference_scheduler(name, 50), make_scheduler(name, 50, 1.0)
    expected = torch.from_numpy(gaussian(1)) * theirs.init_noise_sigma
    latents = ours.start(gaussian(1))
    for index, timestep in enumerate(theirs.timesteps):
        scaled = theirs.scale_model_input(expected, timestep).numpy()
        drawn = len(noises)
        output = torch.from_numpy(smooth(scaled))
        expected = theirs.step(output, timestep, expected).prev_sample
        fresh = iter(noises[drawn:])
        latents = ours.step(smooth(ours.scale(latents, index)), index, latents, fresh.__next__).latents
    assert_close(latents, expected.numpy(), WAY_TOLERANCE)
