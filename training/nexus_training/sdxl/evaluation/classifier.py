"""A small classifier of shapes, trained on renders alone, that recognises what the compact SDXL painted."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nexus_training.runtime import to_device
from nexus_training.sdxl.captions import SHAPES, sample_object
from nexus_training.sdxl.photo_crops import PhotoCrops
from nexus_training.sdxl.pictures import compose

# Side of the classifier's input: the bounding square of the mask, downscaled.
CROP_SIDE = 64

RENDERS, STEPS, BATCH = 4096, 700, 64


def build_classifier() -> nn.Module:
    """Pictures [n, 3, 64, 64] in 0..1 to a logit per shape."""

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    layers = [*block(3, 32), *block(32, 32), nn.MaxPool2d(2), *block(32, 64), *block(64, 64), nn.MaxPool2d(2)]
    layers += [*block(64, 128), *block(128, 128), nn.MaxPool2d(2), *block(128, 128), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, len(SHAPES)))


def crop_to_mask(images: Tensor, masks: Tensor) -> Tensor:
    """The bounding square of each mask, [n, 3, 64, 64]; beyond the picture its edge is repeated."""
    device = images.device
    found = masks[:, 0] > 0.5
    height, width = images.shape[-2:]
    rows, columns = found.any(2), found.any(1)
    axis = torch.arange(height, device=device)
    top, bottom = torch.where(rows, axis, height).amin(1), torch.where(rows, axis, -1).amax(1)
    axis = torch.arange(width, device=device)
    left, right = torch.where(columns, axis, width).amin(1), torch.where(columns, axis, -1).amax(1)
    side = torch.maximum(bottom - top, right - left) + 1
    # affine_grid's coordinates run from -1 to 1 over the picture.
    theta = torch.zeros((len(images), 2, 3), device=device)
    theta[:, 0, 0], theta[:, 1, 1] = side / width, side / height
    theta[:, 0, 2], theta[:, 1, 2] = (left + right + 1) / width - 1, (top + bottom + 1) / height - 1
    grid = F.affine_grid(theta, [len(images), 3, 2 * CROP_SIDE, 2 * CROP_SIDE], align_corners=False)
    cut = F.grid_sample(images, grid, align_corners=False, padding_mode="border")
    return F.avg_pool2d(cut, 2)


def train_classifier(
    photos: PhotoCrops, *, seed: int, renders: int = RENDERS, steps: int = STEPS
) -> tuple[nn.Module, float]:
    """Train on renders over photos; return the classifier and its accuracy on new renders."""
    torch.manual_seed(seed)
    network = build_classifier().to(photos.device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    made = [render_batch(photos, BATCH, seed, part) for part in range(renders // BATCH)]
    pictures, labels = (torch.cat(column) for column in zip(*made, strict=True))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(len(labels), (BATCH,), generator=generator).to(photos.device)
        mirrored = pictures[rows].flip(3) if torch.rand((), generator=generator) < 0.5 else pictures[rows]
        loss = F.cross_entropy(network(mirrored), labels[rows])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    network.eval().requires_grad_(False)
    tests = [render_batch(photos, BATCH, seed + 1, part) for part in range(4)]
    correct = torch.cat([network(pictures).argmax(1) == labels for pictures, labels in tests])
    return network, correct.float().mean().item()


def render_batch(photos: PhotoCrops, count: int, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Cropped renders [count, 3, 64, 64] and the indices of their shapes; slightly blurred, like decoded latents."""
    rng = np.random.default_rng((seed, step, 2))
    specs = [sample_object(rng) for _ in range(count)]
    pictures, field = compose(rng, specs, photos.crops(rng, count))
    blurred = F.avg_pool2d(pictures, 3, 1, 1)
    share = to_device(rng.random((count, 1, 1, 1)), photos.device)
    pictures = pictures + (blurred - pictures) * share
    labels = to_device([spec.shape for spec in specs], photos.device)
    return crop_to_mask(pictures, (field < 0).float()[:, None]), labels
