"""Schedulers: from noise to latents in the steps of a sampling method. Knows no networks.

    scheduler = make_scheduler("dpmpp_2m_karras", steps=30, strength=0.8)
    latents = scheduler.start(noise, image_latent)
    for index, timestep in enumerate(scheduler.timesteps):
        predicted_noise = unet(scheduler.scale(latents, index), timestep)
        latents, denoised = scheduler.step(predicted_noise, index, latents, draw)

Each follows diffusers' class of that method made by `from_config` of the published scheduler configuration (SDXL
inpainting: 1000 timesteps, epsilon, "leading", steps_offset 1, set_alpha_to_one false, clip_sample false). SD 1.5's
configuration has no spacing, so there diffusers falls back on each class's own default ("linspace" for Euler and
DPM++); here "leading", SDXL's published value, holds for both, so that a fill's steps are the same on either tier.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from nexus_ensembles.diffusion import noise_schedule
from nexus_ensembles.diffusion.noise_schedule import Schedule
from nexus_ensembles.errors import BadInput
from nexus_ensembles.networks import Float32

# Fresh N(0, 1) noise, FP32 in the latents' shape.
Draw = Callable[[], Float32]


class Step(NamedTuple):
    """The result of a step: `latents` for the next one, and `denoised`, the image latent as predicted so far."""

    latents: Float32
    denoised: Float32


class Scheduler(ABC):
    """One request's way from noise to an image latent; a `strength` below 1 skips the first of its steps.

    `timesteps` FP32 [n] are those of the n remaining steps, and `sigmas` the n + 1 noise levels between which they
    lead. With `starts_from_noise` the image has no part in the first latents. Latents, noise and predictions are FP32
    of one shape. A scheduler serves one request: a method may remember its last step, until `start` begins again.
    """

    def __init__(self, schedule: Schedule, strength: float) -> None:
        steps = len(schedule.timesteps)
        remaining = min(int(steps * strength), steps)
        if remaining < 1:
            raise BadInput(
                f"{steps} steps at a strength of {strength:g} leave no step to take; raise the steps or the strength."
            )
        self.starts_from_noise = strength == 1.0
        tail = schedule.tail(remaining)
        self.timesteps, self.sigmas = tail.timesteps, tail.sigmas

    @abstractmethod
    def start(self, noise: Float32, image_latent: Float32 | None = None) -> Float32:
        """The first latents: from N(0, 1) `noise` alone at strength 1, else from `image_latent` noised with it."""

    @abstractmethod
    def scale(self, latents: Float32, index: int) -> Float32:
        """The latents as the network takes them at step `index`, of variance 1."""

    @abstractmethod
    def step(self, noise_prediction: Float32, index: int, latents: Float32, draw: Draw) -> Step:
        """Take step `index` of len(timesteps) from `latents` (not scaled), by the network's prediction of the noise.

        Methods that add noise call `draw` at most once.
        """


class _Exploding(Scheduler):
    """Latents are image + sigma * noise."""

    def start(self, noise: Float32, image_latent: Float32 | None = None) -> Float32:
        if self.starts_from_noise or image_latent is None:
            return noise * math.hypot(1, self.sigmas[0])
        return image_latent + noise * self.sigmas[0]

    def scale(self, latents: Float32, index: int) -> Float32:
        return latents / math.hypot(1, self.sigmas[index])


class _Preserving(Scheduler):
    """Latents are alpha * (image + sigma * noise), alpha = 1 / sqrt(1 + sigma**2): of variance 1 throughout."""

    def start(self, noise: Float32, image_latent: Float32 | None = None) -> Float32:
        if self.starts_from_noise or image_latent is None:
            return noise
        return _noised(image_latent, noise, self.sigmas[0])

    def scale(self, latents: Float32, index: int) -> Float32:  # noqa: ARG002 (one interface for all methods)
        return latents

    def _denoised(self, noise_prediction: Float32, index: int, latents: Float32) -> Float32:
        sigma = self.sigmas[index]
        return latents * math.hypot(1, sigma) - sigma * noise_prediction


class Euler(_Exploding):
    """Euler's method on the probability flow (Karras et al. 2022, arXiv:2206.00364, algorithm 2 without churn)."""

    def step(self, noise_prediction: Float32, index: int, latents: Float32, draw: Draw) -> Step:  # noqa: ARG002
        sigma, following = self.sigmas[index : index + 2]
        denoised = latents - sigma * noise_prediction
        return Step(latents + (following - sigma) * noise_prediction, denoised)


class EulerAncestral(_Exploding):
    """Euler's method to a level below the next, and fresh noise up to it: the ancestral step of k-diffusion.

    The variance is that of DDPM's posterior (arXiv:2006.11239). Noise is drawn at every step, though the last one
    ends at sigma 0 and adds none of it, as in diffusers.
    """

    def step(self, noise_prediction: Float32, index: int, latents: Float32, draw: Draw) -> Step:
        sigma, following = self.sigmas[index : index + 2]
        down = following**2 / sigma
        up = math.sqrt(following**2 - down**2)
        denoised = latents - sigma * noise_prediction
        return Step(latents + (down - sigma) * noise_prediction + up * draw(), denoised)


class DpmPlusPlus2M(_Preserving):
    """DPM-Solver++ (2M), midpoint (Lu et al. 2022, arXiv:2211.01095, algorithm 2).

    The first step taken and the last one, which ends at sigma 0, are of first order.
    """

    def __init__(self, schedule: Schedule, strength: float) -> None:
        super().__init__(schedule, strength)
        self._last_denoised: Float32 | None = None

    def start(self, noise: Float32, image_latent: Float32 | None = None) -> Float32:
        self._last_denoised = None
        return super().start(noise, image_latent)

    def step(self, noise_prediction: Float32, index: int, latents: Float32, draw: Draw) -> Step:  # noqa: ARG002
        sigma, following = self.sigmas[index : index + 2]
        denoised = target = self._denoised(noise_prediction, index, latents)
        if self._last_denoised is not None and following > 0:
            # both are steps in lambda, the log of the signal-to-noise ratio: -log(sigma)
            h, last_h = math.log(sigma / following), math.log(self.sigmas[index - 1] / sigma)
            target = denoised + (h / (2 * last_h)) * (denoised - self._last_denoised)
        self._last_denoised = denoised
        ratio, alpha = following / sigma, 1 / math.hypot(1, following)
        # the published sigma_t / sigma_s is of levels of variance 1: alpha * sigma in ours
        kept = ratio * alpha * math.hypot(1, sigma)
        return Step(kept * latents + (alpha * (1 - ratio)) * target, denoised)


class Ddim(_Preserving):
    """DDIM without noise, eta 0 (Song et al. 2020, arXiv:2010.02502, equation 12)."""

    def step(self, noise_prediction: Float32, index: int, latents: Float32, draw: Draw) -> Step:  # noqa: ARG002
        denoised = self._denoised(noise_prediction, index, latents)
        return Step(_noised(denoised, noise_prediction, self.sigmas[index + 1]), denoised)


class Lcm(_Preserving):
    """Multistep sampling of a latent consistency model (Luo et al. 2023, arXiv:2310.04378, algorithm 3).

    It needs a network distilled for it; every step but the last adds fresh noise.
    """

    SIGMA_DATA = 0.5
    TIMESTEP_SCALING = 10.0

    def step(self, noise_prediction: Float32, index: int, latents: Float32, draw: Draw) -> Step:
        scaled = self.TIMESTEP_SCALING * float(self.timesteps[index])
        spread = math.hypot(scaled, self.SIGMA_DATA)
        skip, out = (self.SIGMA_DATA / spread) ** 2, scaled / spread
        denoised = skip * latents + out * self._denoised(noise_prediction, index, latents)
        following = self.sigmas[index + 1]
        return Step(_noised(denoised, draw(), following) if following > 0 else denoised, denoised)


def _noised(image_latent: Float32, noise: Float32, sigma: float) -> Float32:
    """The latents of variance 1 that hold the image at a noise level."""
    alpha = 1 / math.hypot(1, sigma)
    return alpha * image_latent + (alpha * sigma) * noise


_METHODS: dict[str, tuple[type[Scheduler], Callable[[int], Schedule]]] = {
    "euler": (Euler, lambda steps: noise_schedule.leading(steps, karras=False)),
    "euler_karras": (Euler, lambda steps: noise_schedule.leading(steps, karras=True)),
    "euler_ancestral": (EulerAncestral, lambda steps: noise_schedule.leading(steps, karras=False)),
    "euler_ancestral_karras": (EulerAncestral, lambda steps: noise_schedule.leading(steps, karras=True)),
    "dpmpp_2m": (DpmPlusPlus2M, lambda steps: noise_schedule.multistep(steps, karras=False)),
    "dpmpp_2m_karras": (DpmPlusPlus2M, lambda steps: noise_schedule.multistep(steps, karras=True)),
    "ddim": (Ddim, noise_schedule.ending_noisy),
    "lcm": (Lcm, noise_schedule.consistency),
}
SCHEDULERS = tuple(_METHODS)


def make_scheduler(name: str, steps: int, strength: float) -> Scheduler:
    """Make one of SCHEDULERS for the last int(steps * strength) of `steps` >= 1 steps, 0 <= strength <= 1.

    Raises BadInput for an unknown name, for a strength that leaves no step, and for more LCM steps than there are.
    """
    if name not in _METHODS:
        raise BadInput(f"there is no such scheduler; it must be one of {', '.join(SCHEDULERS)}.")
    if name == "lcm" and steps > noise_schedule.LCM_TRAINING_STEPS:
        raise BadInput(
            f"lcm takes at most {noise_schedule.LCM_TRAINING_STEPS} steps, not {steps}; 4 to 8 are enough."
        )
    method, schedule = _METHODS[name]
    return method(schedule(steps), strength)
