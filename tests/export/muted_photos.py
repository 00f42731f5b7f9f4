"""Photos for the compact SDXL's tests: coarse, and without any colour that a judge would name."""

import cv2
import numpy as np
from nexus_export.training.lama_photos import Photo


def muted_photo(seed: int) -> Photo:
    """UINT8 [300, 400, 3]."""
    coarse = np.random.default_rng(seed).integers(60, 180, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (400, 300)).astype(np.uint8)
