"""The diffusion models of generative fill, from the best to the frugal, and the breaker that skips one without memory.

Knows how each tier's networks are conditioned, and calls none.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nexus_ensembles.errors import OutOfMemory
from nexus_ensembles.networks import Float32

# How long a tier that ran out of memory is skipped at first and, doubled with each failed probe, at most.
COOL_DOWN_SECONDS = 30.0
LONGEST_COOL_DOWN_SECONDS = 600.0


@dataclass(frozen=True)
class Tier:
    """One set of networks: `name`_text_encoder, _vae_encoder, _unet and _vae_decoder.

    `side` is that of the model's own images in pixels, `latent_rgb` FP32 [5, 3] maps a scaled latent to RGB from 0 to
    255 (its last row is the bias), and `random_weights` marks a model that was never trained.
    """

    name: str
    side: int
    latent_rgb: Float32
    random_weights: bool

    @classmethod
    def load(cls, folder: Path, name: str) -> Tier:
        """Read `name`.json, which the export writes with the networks."""
        config = json.loads((folder / f"{name}.json").read_text())
        return cls(name, config["side"], np.array(config["latent_rgb"], np.float32), config["random_weights"])

    @property
    def is_sdxl(self) -> bool:
        """True with SDXL's two text encoders, and its pooled text and sizes as conditions beside the text."""
        return self.name == "sdxl"


class Breaker:
    """A half-open circuit breaker: keeps requests from a tier that is out of memory, and lets one at a time probe it.

    The first OutOfMemory opens it; after a cool-down, one request probes the tier while the others still do without.
    Its success closes the breaker; another OutOfMemory doubles the cool-down.
    """

    def __init__(
        self, cool_down_seconds: float = COOL_DOWN_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._first_seconds = cool_down_seconds
        self._clock = clock
        self._cool_down_seconds: float | None = None  # None while closed
        self._next_try = 0.0
        self._is_probing = False

    @property
    def is_open(self) -> bool:
        """True while the tier is skipped, but for one request at a time that probes it."""
        return self._cool_down_seconds is not None

    def admit(self) -> AbstractContextManager[None] | None:
        """A context to try the tier in, which learns from an OutOfMemory; None when the tier is to be skipped."""
        if not self.is_open:
            return self._attempt(is_probe=False)
        if self._is_probing or self._clock() < self._next_try:
            return None
        self._is_probing = True
        return self._attempt(is_probe=True)

    @contextmanager
    def _attempt(self, is_probe: bool) -> Iterator[None]:
        try:
            yield
        except OutOfMemory:
            if (
                is_probe or not self.is_open
            ):  # requests from before it opened add nothing when they fail as well
                self._open()
            raise
        else:
            if is_probe:
                self._cool_down_seconds = None
        finally:
            if is_probe:
                self._is_probing = False

    def _open(self) -> None:
        doubled = self._first_seconds if self._cool_down_seconds is None else 2 * self._cool_down_seconds
        self._cool_down_seconds = min(doubled, LONGEST_COOL_DOWN_SECONDS)
        self._next_try = self._clock() + self._cool_down_seconds
