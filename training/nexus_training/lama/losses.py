"""LaMa's training losses and its patch discriminator (Suvorov et al. 2021, section 3.2).

The paper's perceptual loss is left out: it needs a network trained for segmentation on data that this
project does not have. Reconstruction inside the hole and the local spectra of `spectrum` take its
place.
"""

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

# Pixels; within half of it a hole's pixels count as near its edge.
NEIGHBOURHOOD = 17

SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2

# Weight of pixels deep inside a hole; at the edge it is about three times that.
DEEP_WEIGHT = 0.2


class PatchDiscriminator(nn.Module):
    """Judges overlapping patches (Isola et al. 2017), on image and mask."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        channels = [4, width, width * 2, width * 4, width * 4]
        # No normalisation: the gradient penalty regularises, and each sample is judged by itself.
        self.layers = nn.ModuleList(
            nn.Conv2d(inputs, outputs, kernel_size=4, stride=2 if index < 3 else 1, padding=2)
            for index, (inputs, outputs) in enumerate(pairwise(channels))
        )
        self.head = nn.Conv2d(channels[-1], 1, kernel_size=4, padding=2)

    def forward(self, image: Tensor, mask: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits [B, 1, h, w] (positive: real) and the features of every layer.

        Args:
            image: FP32 [B, 3, H, W] in [0, 1].
            mask: FP32 [B, 1, H, W], 1 in the hole.
        """
        x = torch.cat([image * 2.0 - 1.0, mask], dim=1)
        features = []
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.head(x), features


def reconstruction(painted: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error of [B, 3, H, W] over the hole, weighted towards its edge.

    Pixels near known ones can be predicted and those deep inside a large hole cannot, so the edge teaches
    more (the spatial discount of Yu et al. 2018, by the share of known pixels around). Each picture counts
    the same, however large its hole. Known pixels do not count: the network itself puts them back.
    """
    near = functional.avg_pool2d(1.0 - mask, NEIGHBOURHOOD, stride=1, padding=NEIGHBOURHOOD // 2)
    weight = mask * (DEEP_WEIGHT + near)
    return (((painted - image).abs() * weight).sum(dim=(1, 2, 3)) / (weight.sum(dim=(1, 2, 3)) * 3)).mean()


def structure(composite: Tensor, image: Tensor, mask: Tensor) -> Tensor:
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


def discriminator_loss(real: Tensor, fake: Tensor, mask: Tensor) -> Tensor:
    """Non-saturating loss; patches of the fake that touch no hole are real pixels and count as real."""
    touched = functional.adaptive_max_pool2d(mask, fake.shape[-2:])
    on_fake = functional.softplus(fake) * touched + functional.softplus(-fake) * (1.0 - touched)
    return functional.softplus(-real).mean() + on_fake.mean()


def generator_adversarial(fake: Tensor, mask: Tensor) -> Tensor:
    """Non-saturating loss over the patches that touch a hole."""
    touched = functional.adaptive_max_pool2d(mask, fake.shape[-2:])
    return (functional.softplus(-fake) * touched).sum() / touched.sum()


def feature_matching(real: list[Tensor], fake: list[Tensor], mask: Tensor) -> Tensor:
    """Mean absolute difference of the discriminator's features (Wang et al. 2018) where a hole reaches.

    Averaged over the touched positions of a layer, then over the layers.
    """
    losses = []
    for expected, got in zip(real, fake, strict=True):
        touched = functional.adaptive_max_pool2d(mask, got.shape[-2:])
        difference = (expected.detach().float() - got.float()).abs() * touched
        losses.append(difference.sum() / (touched.sum() * got.shape[1]))
    return torch.stack(losses).mean()


def gradient_penalty(discriminator: PatchDiscriminator, image: Tensor, mask: Tensor) -> Tensor:
    """R1 (Mescheder et al. 2018): squared gradient of the real logits with respect to the image."""
    image = image.detach().requires_grad_()
    logits, _ = discriminator(image, mask)
    (gradient,) = torch.autograd.grad(logits.sum(), image, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


# Of the norms, per step: a single step's norm jumps with its batch.
AVERAGING = 0.98

REFERENCE = "reconstruction"


class GradientBalance:
    """Combines the gradients of named losses; `norms` is its state."""

    def __init__(self) -> None:
        self.norms: dict[str, Tensor] = {}

    def combine(self, losses: Mapping[str, Tensor], shares: Mapping[str, float], output: Tensor) -> Tensor:
        """The gradient to send back from `output`, a leaf that the losses depend on.

        Args:
            losses: scalars; "reconstruction" among them, whose gradient counts as it is.
            shares: for every other loss, the norm its gradient gets, relative to the reconstruction's.
        """
        gradients = {
            name: torch.autograd.grad(loss, output, retain_graph=True)[0] for name, loss in losses.items()
        }
        for name, gradient in gradients.items():
            norm = gradient.norm()
            self.norms[name] = torch.lerp(norm, self.norms[name], AVERAGING) if name in self.norms else norm
        total = gradients.pop(REFERENCE)
        for name, gradient in gradients.items():
            total = total + shares[name] * self.norms[REFERENCE] / (self.norms[name] + 1e-12) * gradient
        return total
