"""Validation of a run in progress: figures and a contact sheet on fixed crops."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from nexus_export.families.lama.generator import Generator
from nexus_export.families.lama.network import complete
from nexus_export.families.lama.pyramid import pyramid_fill
from torch import Tensor

from nexus_training.lama.masks import random_mask
from nexus_training.lama.spectrum import hole_spectrum_error
from nexus_training.photos import Photo, detailed_crop

CROPS = 48
SHEET_CROPS = 8


class Report:
    """Fixed crops and holes on the training device, and what a generator makes of them."""

    def __init__(self, photos: Sequence[Photo], crop: int, device: torch.device) -> None:
        rng = np.random.default_rng(1)
        images = np.stack([detailed_crop(rng, photos[index % len(photos)], crop) for index in range(CROPS)])
        masks = [random_mask(rng, crop)[None] for _ in range(CROPS)]
        self.image = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 255.0
        self.mask = torch.from_numpy(np.stack(masks)).to(device).float()
        self.pyramid = pyramid_fill(self.image, self.mask)

    @torch.no_grad()
    def fill(self, generator: Generator) -> Tensor:
        """Fill the holes: FP32 [B, 3, H, W] in [0, 1]."""
        painted = complete(generator, self.image, self.mask, pyramid=True).clamp(0.0, 1.0)
        return self.image * (1.0 - self.mask) + painted * self.mask

    def figures(self, filled: Tensor) -> str:
        """Masked PSNR and spectrum error, beside those of the pyramid alone."""
        psnr, plain = (self._psnr(x) for x in (filled, self.pyramid))
        error, blurred = (
            float(hole_spectrum_error(x, self.image, self.mask).nanmean()) for x in (filled, self.pyramid)
        )
        return f"PSNR {psnr:.2f} (pyramid {plain:.2f}) dB  spectrum error {error:.2f} ({blurred:.2f}) dB"

    def write_sheet(self, filled: Tensor, path: Path) -> None:
        """Write a contact sheet, one row a crop: the hole, the pyramid's fill, the network's fill, the truth."""
        grey = self.image * (1.0 - self.mask) + 0.5 * self.mask
        rows = torch.cat([grey, self.pyramid, filled, self.image], dim=3)[:SHEET_CROPS]
        sheet = (rows.permute(0, 2, 3, 1).flatten(0, 1).cpu().numpy() * 255.0).round().astype(np.uint8)
        cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))

    def _psnr(self, filled: Tensor) -> float:
        error = ((filled - self.image).square() * self.mask).sum((1, 2, 3)) / (self.mask.sum((1, 2, 3)) * 3)
        return float((-10.0 * (error + 1e-8).log10()).mean())
