"""The noise levels at which latents are sampled: the published training schedule and the ways to visit it.

SDXL and SD 1.5 were both trained on 1000 timesteps whose betas are "scaled linear" from 0.00085 to 0.012. A level is
given by its sigma, the ratio of noise to signal: a noised latent is x + sigma * noise, or that divided by
sqrt(1 + sigma**2) where a method keeps the variance at 1 (DDIM's alpha-bar is 1 / (1 + sigma**2)).

The table is rounded to float32 where diffusers rounds its own: near timestep 0, where alpha-bar is nearly 1, that
rounding moves a sigma by up to 4e-5 of itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nexus_ensembles.networks import Float32

Float64 = npt.NDArray[np.float64]

TRAINING_TIMESTEPS = 1000
BETA_START, BETA_END = 0.00085, 0.012
KARRAS_RHO = 7.0
# The published `steps_offset`: the last step is taken at timestep 1.
STEPS_OFFSET = 1
# The schedule that latent consistency models were distilled on; a sampler visits some of its timesteps.
LCM_TRAINING_STEPS = 50


def _training_sigmas() -> Float32:
    roots = np.linspace(BETA_START**0.5, BETA_END**0.5, TRAINING_TIMESTEPS).astype(np.float32)
    alphas = np.float32(1) - roots**2
    alphas_cumprod = np.cumprod(alphas, dtype=np.float64).astype(np.float32)
    sigmas: Float32 = np.sqrt((np.float32(1) - alphas_cumprod) / alphas_cumprod)
    return sigmas


TRAINING_SIGMAS: Float32 = _training_sigmas()


@dataclass(frozen=True)
class Schedule:
    """`timesteps` FP32 [n] for the network; `sigmas`, n + 1 of them: before each step, and after the last."""

    timesteps: Float32
    sigmas: tuple[float, ...]

    @classmethod
    def of(cls, timesteps: npt.ArrayLike, sigmas: npt.ArrayLike, last_sigma: float) -> Schedule:
        levels = np.append(np.asarray(sigmas), last_sigma).astype(np.float32)
        return cls(np.asarray(timesteps, np.float32), tuple(levels.tolist()))

    def tail(self, steps: int) -> Schedule:
        """Its last `steps` steps."""
        return Schedule(self.timesteps[-steps:], self.sigmas[-steps - 1 :])


def leading(steps: int, karras: bool) -> Schedule:
    """Timesteps in equal strides, the last of them 1; the first one is below 999 by up to a stride.

    With `karras`, the sigmas between the same ends are spaced as Karras has it, at fractional timesteps.
    """
    timesteps = _strides(steps)
    sigmas = TRAINING_SIGMAS[timesteps]
    if not karras:
        return Schedule.of(timesteps, sigmas, 0.0)
    spaced = _karras(float(sigmas[0]), float(sigmas[-1]), steps)
    return Schedule.of(_timesteps_at(spaced), spaced, 0.0)


def multistep(steps: int, karras: bool) -> Schedule:
    """The schedule of diffusers' DPM++: strides as if for one step more, without the last timestep.

    With `karras`, from one end of the training schedule to the other, at rounded timesteps.
    """
    if not karras:
        timesteps = _strides(steps + 1)[:-1]
        return Schedule.of(timesteps, TRAINING_SIGMAS[timesteps], 0.0)
    spaced = _karras(float(TRAINING_SIGMAS[-1]), float(TRAINING_SIGMAS[0]), steps)
    return Schedule.of(_timesteps_at(spaced).round(), spaced, 0.0)


def ending_noisy(steps: int) -> Schedule:
    """`leading`, ending at the noise of timestep 0 (the published `set_alpha_to_one` is false)."""
    timesteps = _strides(steps)
    return Schedule.of(timesteps, TRAINING_SIGMAS[timesteps], float(TRAINING_SIGMAS[0]))


def consistency(steps: int) -> Schedule:
    """`steps` timesteps, at most LCM_TRAINING_STEPS, spread over those of the distillation, from 999 down."""
    stride = TRAINING_TIMESTEPS // LCM_TRAINING_STEPS
    distilled = np.arange(LCM_TRAINING_STEPS, 0, -1) * stride - 1
    timesteps = distilled[np.arange(steps) * LCM_TRAINING_STEPS // steps]
    return Schedule.of(timesteps, TRAINING_SIGMAS[timesteps], 0.0)


def _strides(steps: int) -> npt.NDArray[np.int_]:
    """INT [steps], falling: diffusers' `timestep_spacing` "leading"."""
    return np.arange(steps - 1, -1, -1) * (TRAINING_TIMESTEPS // steps) + STEPS_OFFSET


def _karras(largest: float, smallest: float, steps: int) -> Float64:
    """FP64 [steps] sigmas from largest to smallest, equation 5 of Karras et al. 2022 (arXiv:2206.00364)."""
    ramp = np.linspace(0, 1, steps)
    top, bottom = largest ** (1 / KARRAS_RHO), smallest ** (1 / KARRAS_RHO)
    sigmas: Float64 = (top + ramp * (bottom - top)) ** KARRAS_RHO
    return sigmas


def _timesteps_at(sigmas: Float64) -> Float64:
    """FP64 timesteps at which the training schedule has these sigmas, interpolated in their logarithms."""
    timesteps: Float64 = np.interp(np.log(sigmas), np.log(TRAINING_SIGMAS), np.arange(TRAINING_TIMESTEPS))
    return timesteps
