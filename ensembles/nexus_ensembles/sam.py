"""The Segment Anything models that segment asks, and all that differs between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nexus_ensembles.frames import Letterbox, Stretch
from nexus_ensembles.models import Model, Models
from nexus_ensembles.networks import Float32

# The published SAM 2's dynamic_multimask_via_stability: a mask whose area hardly depends on where it is cut is stable.
STABILITY_DELTA = 0.05
STABILITY_SHARE = 0.98


@dataclass(frozen=True)
class Sam(Model):
    """One generation: the networks `name`_encoder and `name`_decoder, and how they were trained to be used.

    `frame` brings a photo into the square that the encoder takes, `features` are the outputs of the encoder that the
    decoder takes. `always_closes`: a box, too, is followed by the token for "not a point". `may_fall_back`: where the
    single mask is not stable, the best of the three takes its place.
    """

    frame: type[Letterbox] | type[Stretch]
    features: tuple[str, ...]
    always_closes: bool
    may_fall_back: bool

    def choose(self, masks: Float32, scores: Float32, is_ambiguous: bool) -> int:
        """Which of the masks FP32 [4, 256, 256], logits, to take: 0, the single one, or the best of the other three.

        A prompt that `is_ambiguous` gets one of the three (`predict` with multimask_output in both published codes).
        """
        if is_ambiguous or (self.may_fall_back and not _is_stable(masks[0])):
            return 1 + int(scores[1:].argmax())
        return 0


def _is_stable(logits: Float32) -> bool:
    within = np.count_nonzero(logits > STABILITY_DELTA)
    around = np.count_nonzero(logits > -STABILITY_DELTA)
    return within >= STABILITY_SHARE * around


MODELS = Models(
    # Kirillov et al. 2023, arXiv:2304.02643.
    Sam(
        "sam",
        build="sam",
        frame=Letterbox,
        features=("embedding",),
        always_closes=False,
        may_fall_back=False,
    ),
    # Ravi et al. 2024, arXiv:2408.00714, as its SAM2ImagePredictor uses it.
    Sam(
        "sam2",
        build="sam2 --checkpoint ...",
        frame=Stretch,
        features=("embedding", "high_res_0", "high_res_1"),
        always_closes=True,
        may_fall_back=True,
    ),
)
