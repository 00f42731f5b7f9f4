"""LaMa's losses on pixels and structure, and how the gradients of all losses are balanced.

Reconstruction inside the hole and the local spectra of `spectrum` replace the perceptual loss of Suvorov et al. 2021
(section 3.2), which needs a network trained for segmentation on data that this project does not have.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

# Window in pixels: a pixel of the hole within half of it from a known one counts as near the edge.
NEIGHBOURHOOD = 17

SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2

# Weight of pixels deep inside a hole; about three times as much at its edge.
DEEP_WEIGHT = 0.2


def reconstruction_loss(painted: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error of [B, 3, H, W] over the hole, weighted towards its edge.

    Pixels near known ones are predictable and those deep inside a large hole are not, so the edge weighs more (the
    spatial discount of Yu et al. 2018, by the share of known pixels around). Each picture counts the same, however
    large its hole. Known pixels do not count: the exported network restores them.
    """
    near = functional.avg_pool2d(1.0 - mask, NEIGHBOURHOOD, stride=1, padding=NEIGHBOURHOOD // 2)
    weight = mask * (DEEP_WEIGHT + near)
    return (((painted - image).abs() * weight).sum(dim=(1, 2, 3)) / (weight.sum(dim=(1, 2, 3)) * 3)).mean()


def ssim_loss(composite: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """One minus SSIM (Wang et al. 2004; 11x11 Gaussian, sigma 1.5) over the hole; each picture counts the same.

    Args:
        composite, image: FP32 [B, 3, H, W] in [0, 1]: the filled picture and the truth.
        mask: FP32 [B, 1, H, W], 1 in the hole.
    """
    offsets = torch.arange(11.0, device=image.device) - 5.0
    bell = torch.exp(-offsets.square() / (2 * 1.5**2))
    bell = (bell / bell.sum()).expand(image.shape[1], 1, 1, 11)

    def blur(x: Tensor) -> Tensor:
        rows = functional.conv2d(x, bell, padding=(0, 5), groups=x.shape[1])
        return functional.conv2d(rows, bell.transpose(2, 3), padding=(5, 0), groups=x.shape[1])

    mean, expected = blur(composite), blur(image)
    variance = blur(composite.square()) - mean.square()
    expected_variance = blur(image.square()) - expected.square()
    covariance = blur(composite * image) - mean * expected
    similarity = ((2 * mean * expected + SSIM_C1) * (2 * covariance + SSIM_C2)) / (
        (mean.square() + expected.square() + SSIM_C1) * (variance + expected_variance + SSIM_C2)
    )
    inside = (similarity * mask).sum(dim=(1, 2, 3)) / (mask.sum(dim=(1, 2, 3)) * image.shape[1])
    return (1.0 - inside).mean()


# Decay per step of the moving average of norms: a single step's norm is too noisy.
NORM_DECAY = 0.98

REFERENCE = "reconstruction"


class GradientBalance:
    """Combines the gradients of named losses at the generator's output; `norms` is its state.

    Weights of unlike losses are found by trial and change their meaning during a run. Instead each gradient is scaled
    to a fixed share of the reconstruction's norm (as in Esser et al. 2021, Taming Transformers, section 3.1, there at
    the last layer); norms are averaged over many steps.
    """

    def __init__(self) -> None:
        self.norms: dict[str, Tensor] = {}

    def combine(self, losses: Mapping[str, Tensor], shares: Mapping[str, float], output: Tensor) -> Tensor:
        """Return the gradient to backpropagate from `output`, a leaf that the losses depend on.

        Args:
            losses: scalars, including "reconstruction", whose gradient is not scaled.
            shares: the norm of every other loss's gradient relative to the reconstruction's.
        """
        gradients = {
            name: torch.autograd.grad(loss, output, retain_graph=True)[0] for name, loss in losses.items()
        }
        for name, gradient in gradients.items():
            norm = gradient.norm()
            self.norms[name] = torch.lerp(norm, self.norms[name], NORM_DECAY) if name in self.norms else norm
        total = gradients.pop(REFERENCE)
        for name, gradient in gradients.items():
            total = total + shares[name] * self.norms[REFERENCE] / (self.norms[name] + 1e-12) * gradient
        return total
