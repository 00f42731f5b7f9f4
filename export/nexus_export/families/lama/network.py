"""LaMa as a network: UINT8 image and mask in, UINT8 image out, and its export to ONNX."""

import copy

import onnx
import torch
from torch import Tensor, nn

from nexus_export.families.lama.generator import OUT_CHANNELS, Generator, GeneratorConfig
from nexus_export.families.lama.grain import grain, tile
from nexus_export.families.lama.pyramid import pyramid_fill
from nexus_export.networks import NETWORKS
from nexus_export.onnx_graphs.torchscript import export_network

# The network of our own training: small enough for a laptop's processor.
COMPACT_CONFIG = GeneratorConfig(width=24, blocks=6, output="residual")


def complete(generator: Generator, image: Tensor, mask: Tensor, pyramid: bool) -> Tensor:
    """The generator's whole picture, before known pixels are put back.

    Args:
        image: FP32 [B, 3, H, W] in [0, 1].
        mask: FP32 [B, 1, H, W], 1 in the hole, 0 elsewhere.
        pyramid: feed the pyramid fill and add correction and grain to it; otherwise feed a blanked hole.

    Returns:
        FP32 [B, 3, H, W], nominally in [0, 1].
    """
    if not pyramid:
        return generator(torch.cat([image * (1.0 - mask), mask], dim=1))  # type: ignore[no-any-return]
    faithful, amplitudes = correct(generator, image, mask)
    return faithful + grain(amplitudes, tile(mask.device))


def correct(generator: Generator, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The corrected fill of the pyramid, FP32 [B, 3, H, W], and the amplitudes of its grain, [B, BANDS, H, W]."""
    smooth = pyramid_fill(image, mask)
    output: Tensor = generator(torch.cat([smooth, mask], dim=1))
    return smooth + output[:, :OUT_CHANNELS], output[:, OUT_CHANNELS:]


class LamaNetwork(nn.Module):
    """The exportable graph: normalisation, fill, compositing and rounding around a generator."""

    def __init__(self, generator: Generator, pyramid: bool) -> None:
        super().__init__()
        self.generator = generator
        self.pyramid = pyramid

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Fill the hole.

        Args:
            image: UINT8 [B, H, W, 3], RGB; H and W multiples of 8, at least 16.
            mask: UINT8 [B, H, W, 1]; nonzero marks the hole.

        Returns:
            UINT8 [B, H, W, 3]; outside the hole byte-identical to `image`.
        """
        pixels = image.permute(0, 3, 1, 2).float()
        hole = mask.permute(0, 3, 1, 2).float().clamp(max=1.0)
        painted = complete(self.generator, pixels / 255.0, hole, self.pyramid)
        # Integers up to 255 are exact in FP32, so this blend with a 0/1 mask leaves known pixels exact.
        rounded = (painted.clamp(0.0, 1.0) * 255.0).round()
        filled = pixels * (1.0 - hole) + rounded * hole
        return filled.to(torch.uint8).permute(0, 2, 3, 1)


def export_template(network: LamaNetwork) -> onnx.ModelProto:
    """The graph of `network` without its weights: inputs image, mask, output filled; B, H and W dynamic.

    Weights keep the names of `network.state_dict()`; see `nexus_export.onnx_graphs.template`.
    """
    network = copy.deepcopy(network)
    network.generator.matrix_dft = True
    # Not square, so that no axis can be mistaken for the other while tracing.
    return export_network(network, NETWORKS["lama"], sizes={"height": 64, "width": 96})
