"""SAM's prompt encoder and mask decoder in torch, batched over images, with every mask they predict.

Written from the paper (Kirillov et al. 2023, arXiv:2304.02643) and checked against the published code,
segment_anything/modeling/{prompt_encoder,mask_decoder}.py and utils/onnx.py, whose state-dict
keys it keeps: the decoder part of any published SAM or MobileSAM checkpoint loads by its own names.

It differs where a server needs it to. Every row of the batch has its own embedding and prompts (the
published decoder takes many prompts for one image); rows with fewer prompts are filled up with a label
that no attention sees; all four masks come back, and which one to use is the caller's choice.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from nexus_export.families.sam.constants import FILLER, IMAGE_SIZE, NOT_A_POINT
from nexus_export.families.sam.transformer import CHANNELS, TwoWayTransformer

EMBEDDING_SIZE = 64
# The single-mask token and the three of the ambiguous (multi-mask) answer.
MASKS = 4

# Added to the attention score of a hidden key: its softmax is exactly 0, in FP16 (least -65504) too.
HIDDEN = -1e4


class LayerNorm2d(nn.Module):
    """Normalises every pixel over its channels.

    As one operator, which engines compute in FP32 inside: in FP16, the squares of MobileSAM's neck, seen up to 56306 on
    photos, come close to overflowing.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, pixels: Tensor) -> Tensor:
        channels_last = pixels.permute(0, 2, 3, 1)
        unit = functional.layer_norm(channels_last, self.weight.shape, self.weight, self.bias, eps=1e-6)
        return unit.permute(0, 3, 1, 2)


class Perceptron(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = functional.relu(layer(x))
        out: Tensor = self.layers[-1](x)
        return out


class PositionalEncoding(nn.Module):
    """Random Fourier features of a position (Tancik et al. 2020, arXiv:2006.10739)."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, CHANNELS // 2))

    def forward(self, positions: Tensor) -> Tensor:
        """Positions [..., 2] (x, y) in [0, 1] to features [..., 256]."""
        angles = 2 * torch.pi * ((2 * positions - 1) @ self.positional_encoding_gaussian_matrix)
        return torch.cat([torch.sin(angles), torch.cos(angles)], dim=-1)


class PromptEncoder(nn.Module):
    """Clicks, boxes and a previous mask to tokens and a dense map."""

    def __init__(self) -> None:
        super().__init__()
        self.pe_layer = PositionalEncoding()
        # By label: negative click, positive click, top-left corner, bottom-right corner.
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, CHANNELS) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, CHANNELS)
        self.no_mask_embed = nn.Embedding(1, CHANNELS)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, 2, stride=2),
            LayerNorm2d(4),
            nn.GELU(),
            nn.Conv2d(4, 16, 2, stride=2),
            LayerNorm2d(16),
            nn.GELU(),
            nn.Conv2d(16, CHANNELS, 1),
        )

    def embed_points(self, points: Tensor, labels: Tensor) -> Tensor:
        """Points [B,N,2] in the 1024 frame, labels [B,N], to tokens [B,N,256]."""
        labels = labels.unsqueeze(-1)
        # A pixel's centre lies half a pixel in.
        tokens: Tensor = self.pe_layer((points + 0.5) / IMAGE_SIZE) * (labels >= 0).to(points.dtype)
        tokens = tokens + self.not_a_point_embed.weight * (labels == NOT_A_POINT).to(points.dtype)
        for label, embedding in enumerate(self.point_embeddings):
            weight = embedding.get_parameter("weight")
            tokens = tokens + weight * (labels == label).to(points.dtype)
        return tokens

    def embed_mask(self, mask: Tensor, has_mask: Tensor) -> Tensor:
        """Logits [B,1,256,256], 1 or 0 [B,1], to a dense map [B,256,64,64]."""
        has_mask = has_mask[:, :, None, None]
        absent = self.no_mask_embed.weight[:, :, None, None]
        present: Tensor = self.mask_downscaling(mask)
        return has_mask * present + (1 - has_mask) * absent

    def image_positions(self) -> Tensor:
        """The encoded positions of the embedding's pixels, [1, 64 * 64, 256]."""
        centres = (torch.arange(EMBEDDING_SIZE, dtype=torch.float32) + 0.5) / EMBEDDING_SIZE
        rows, columns = torch.meshgrid(centres, centres, indexing="ij")
        positions: Tensor = self.pe_layer(torch.stack([columns, rows], dim=-1).reshape(1, -1, 2))
        return positions


class MaskDecoder(nn.Module):
    """Tokens and an image to four masks and their scores."""

    # The decoder's own tokens before those of the masks; the scores are read from the last of them.
    single_tokens: tuple[str, ...] = ("iou_token",)

    def __init__(self) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer()
        for name in self.single_tokens:
            self.add_module(name, nn.Embedding(1, CHANNELS))
        self.mask_tokens = nn.Embedding(MASKS, CHANNELS)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(CHANNELS, CHANNELS // 4, 2, stride=2),
            LayerNorm2d(CHANNELS // 4),
            nn.GELU(),
            nn.ConvTranspose2d(CHANNELS // 4, CHANNELS // 8, 2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            Perceptron(CHANNELS, CHANNELS, CHANNELS, CHANNELS // 8) for _ in range(MASKS)
        )
        self.iou_prediction_head = Perceptron(CHANNELS, CHANNELS, CHANNELS, MASKS)

    def forward(
        self, image: Tensor, image_positions: Tensor, prompts: Tensor, hide: Tensor, *fine: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Image [B,256,64,64], prompts [B,N,256], `hide` [B,1,1,N] to masks [B,4,256,256], scores [B,4].

        `fine` are the finer maps of the image that SAM 2 has.
        """
        names, singles = (*self.single_tokens, "mask_tokens"), len(self.single_tokens)
        own = torch.cat([self.get_parameter(f"{name}.weight") for name in names])
        own = own.expand(prompts.shape[0], -1, -1)
        hide = functional.pad(hide, (singles + MASKS, 0))
        pixels = image.flatten(2).transpose(1, 2)
        tokens, pixels = self.transformer(torch.cat([own, prompts], dim=1), pixels, image_positions, hide)

        planes = pixels.transpose(1, 2).reshape(-1, CHANNELS, EMBEDDING_SIZE, EMBEDDING_SIZE)
        upscaled = self.upscale(planes, *fine)
        filters = [mlp(tokens[:, singles + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)]
        side = 4 * EMBEDDING_SIZE
        masks = (torch.stack(filters, dim=1) @ upscaled.flatten(2)).reshape(-1, MASKS, side, side)
        return masks, self.iou_prediction_head(tokens[:, singles - 1])

    def upscale(self, planes: Tensor, *_fine: Tensor) -> Tensor:
        """From [B,256,64,64] to [B,32,256,256]."""
        upscaled: Tensor = self.output_upscaling(planes)
        return upscaled


class SamDecoder(nn.Module):
    """The exportable graph: an image's embedding and its prompts to every mask that SAM predicts."""

    def __init__(self) -> None:
        super().__init__()
        self.prompt_encoder = PromptEncoder()
        self.mask_decoder = MaskDecoder()

    def forward(
        self, embedding: Tensor, points: Tensor, labels: Tensor, mask_input: Tensor, has_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decode a batch; every tensor is FP32.

        Args:
            embedding: [B,256,64,64], from the encoder.
            points: [B,N,2], (x, y) in pixels of the letterboxed 1024x1024 image.
            labels: [B,N]; 1 and 0 are positive and negative clicks, 2 and 3 a box's top-left and
                bottom-right corner, -1 SAM's own padding (which it was trained to see when there is no
                box), -2 a filler that only makes N equal across a batch and changes no result.
            mask_input: [B,1,256,256], the logits of an earlier answer.
            has_mask: [B,1], 1 to use `mask_input`, 0 to ignore it.

        Returns:
            masks [B,4,256,256], logits, positive inside: first the single-mask token's, then the three
            alternatives; scores [B,4], their predicted IoU.
        """
        prompts = self.prompt_encoder.embed_points(points, labels)
        hide = ((labels == FILLER).to(points.dtype) * HIDDEN)[:, None, None, :]
        image = embedding + self.prompt_encoder.embed_mask(mask_input, has_mask)
        positions = self.prompt_encoder.image_positions()
        decoded: tuple[Tensor, Tensor] = self.mask_decoder(image, positions, prompts, hide)
        return decoded
