"""SAM 2's image encoder as a network: UINT8 pixels in, the embedding and two finer maps out.

Written from the paper (Ravi et al. 2024, arXiv:2408.00714) and checked against the published code,
sam2/modeling/{backbones/image_encoder,sam2_base}.py and sam2_image_predictor.py, whose state-dict keys it keeps.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from nexus_export.families.imagenet import PIXEL_MEAN, PIXEL_STD
from nexus_export.families.sam.transformer import CHANNELS
from nexus_export.families.sam2.hiera import Hiera, HieraConfig


class Neck(nn.Module):
    """A feature pyramid (Lin et al. 2017, arXiv:1612.03144) in which only the coarsest two levels are joined."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        # The coarsest first, as published.
        self.convs = nn.ModuleList(
            nn.Sequential(OrderedDict(conv=nn.Conv2d(width, CHANNELS, 1))) for width in reversed(channels)
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """The backbone's four maps to three of 256 channels: [B,256,256,256], [B,256,128,128], [B,256,64,64].

        The coarsest map's own is joined into the last and not needed any further.
        """
        coarsest, third, second, first = (
            conv(feature) for conv, feature in zip(self.convs, reversed(features))
        )
        return [first, second, third + functional.interpolate(coarsest, scale_factor=2.0, mode="nearest")]


class ImageEncoder(nn.Module):
    """Backbone and neck."""

    def __init__(self, config: HieraConfig) -> None:
        super().__init__()
        self.trunk = Hiera(config)
        self.neck = Neck(config.channels)

    def forward(self, image: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.neck(self.trunk(image))
        return maps


class FineMaps(nn.Module):
    """The part of the mask decoder that reads the image alone, and so runs once an image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_s0 = nn.Conv2d(CHANNELS, CHANNELS // 8, 1)
        self.conv_s1 = nn.Conv2d(CHANNELS, CHANNELS // 4, 1)


class Sam2Encoder(nn.Module):
    """The exportable graph: normalisation, image encoder, and the maps that the decoder reads."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: HieraConfig) -> None:
        super().__init__()
        self.image_encoder = ImageEncoder(config)
        self.sam_mask_decoder = FineMaps()
        # Stands for "no earlier frame": a photo is a video of one.
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, CHANNELS))
        self.register_buffer("mean", 255 * torch.tensor(PIXEL_MEAN), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(PIXEL_STD), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode a batch.

        Args:
            image: UINT8 [B,1024,1024,3], RGB, the whole photo stretched to the square.

        Returns:
            embedding FP32 [B,256,64,64], high_res_0 FP32 [B,32,256,256], high_res_1 FP32 [B,64,128,128].
        """
        pixels = ((image.float() - self.mean) / self.std).permute(0, 3, 1, 2)
        first, second, third = self.image_encoder(pixels)
        embedding = third + self.no_mem_embed.reshape(1, CHANNELS, 1, 1)
        return embedding, self.sam_mask_decoder.conv_s0(first), self.sam_mask_decoder.conv_s1(second)
