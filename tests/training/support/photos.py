"""Photos to train on in tests."""

import cv2
import numpy as np
from nexus_training.photos import Photo


def coarse_photo(seed: int, height: int = 90, width: int = 120) -> Photo:
    """A few random patches of any colour, UINT8 [height, width, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height)).astype(np.uint8)


def muted_photo(seed: int) -> Photo:
    """Coarse, and without any colour that the colour judge would name: UINT8 [300, 400, 3]."""
    coarse = np.random.default_rng(seed).integers(60, 180, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (400, 300)).astype(np.uint8)
