"""SAM's image encoder as a network: normalisation in front of any of the published encoders."""

import torch
from torch import Tensor, nn

from nexus_export.families.sam.constants import PIXEL_MEAN, PIXEL_STD
from nexus_export.families.sam.modules import LayerNorm2d
from nexus_export.families.sam.transformer import CHANNELS


class SamEncoder(nn.Module):
    """The exportable graph: uint8 pixels to an embedding."""

    def __init__(self, image_encoder: nn.Module) -> None:
        super().__init__()
        self.image_encoder = image_encoder

    def forward(self, image: Tensor) -> Tensor:
        """Encode a batch.

        Args:
            image: UINT8 [B,1024,1024,3], RGB, the longest side scaled to 1024, at the top left, padded with
                `constants.PADDING_COLOUR`: the published code pads with zeros after the normalisation.

        Returns:
            The embedding, FP32 [B,256,64,64].
        """
        planes = image.permute(0, 3, 1, 2).float()
        mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (PIXEL_MEAN, PIXEL_STD))
        embedding: Tensor = self.image_encoder((planes - mean) / std)
        return embedding


def neck(width: int) -> nn.Sequential:
    """From the last block's planes [B,width,64,64] to the embedding's 256 channels; as both encoders have it."""
    return nn.Sequential(
        nn.Conv2d(width, CHANNELS, 1, bias=False),
        LayerNorm2d(CHANNELS),
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False),
        LayerNorm2d(CHANNELS),
    )
