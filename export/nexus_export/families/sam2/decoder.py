"""SAM 2's prompt encoder and mask decoder in torch, batched over images, with every mask they predict.

Written from the paper (Ravi et al. 2024, arXiv:2408.00714) and checked against the published code,
sam2/modeling/sam/{prompt_encoder,mask_decoder}.py, whose state-dict keys it keeps. It is SAM's (`families.sam`) with
one more token, finer maps of the image, and scores in [0, 1]; it differs from the published one as that does.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from nexus_export.families.sam.constants import FILLER
from nexus_export.families.sam.modules import (
    EMBEDDING_SIZE,
    HIDDEN,
    MASKS,
    LayerNorm2d,
    Perceptron,
    PromptEncoder,
)
from nexus_export.families.sam.transformer import CHANNELS, TwoWayTransformer


class MaskDecoder(nn.Module):
    """Tokens and an image to four masks and their scores."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer()
        for layer in self.transformer.layers:
            # The same two layers by the names that SAM 2 gives them.
            layer.mlp = Perceptron(CHANNELS, 2048, CHANNELS)
        self.obj_score_token = nn.Embedding(1, CHANNELS)
        self.iou_token = nn.Embedding(1, CHANNELS)
        self.mask_tokens = nn.Embedding(MASKS, CHANNELS)
        self.output_upscaling = nn.ModuleList(
            [
                nn.ConvTranspose2d(CHANNELS, CHANNELS // 4, 2, stride=2),
                LayerNorm2d(CHANNELS // 4),
                nn.GELU(),
                nn.ConvTranspose2d(CHANNELS // 4, CHANNELS // 8, 2, stride=2),
            ]
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            Perceptron(CHANNELS, CHANNELS, CHANNELS, CHANNELS // 8) for _ in range(MASKS)
        )
        self.iou_prediction_head = Perceptron(CHANNELS, CHANNELS, CHANNELS, MASKS)

    def forward(
        self,
        image: Tensor,
        image_positions: Tensor,
        fine: tuple[Tensor, Tensor],
        prompts: Tensor,
        hide: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Image [B,256,64,64], `fine` [B,32,256,256] and [B,64,128,128], prompts [B,N,256], `hide` [B,1,1,N].

        Returns masks [B,4,256,256] and scores [B,4].
        """
        own = torch.cat([self.obj_score_token.weight, self.iou_token.weight, self.mask_tokens.weight])
        own = own.expand(prompts.shape[0], -1, -1)
        hide = functional.pad(hide, (2 + MASKS, 0))
        pixels = image.flatten(2).transpose(1, 2)
        tokens, pixels = self.transformer(torch.cat([own, prompts], dim=1), pixels, image_positions, hide)

        planes = pixels.transpose(1, 2).reshape(-1, CHANNELS, EMBEDDING_SIZE, EMBEDDING_SIZE)
        first, norm, gelu, second = self.output_upscaling
        upscaled = gelu(norm(first(planes) + fine[1]))
        upscaled = gelu(second(upscaled) + fine[0])
        filters = [mlp(tokens[:, 2 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)]
        side = 4 * EMBEDDING_SIZE
        masks = (torch.stack(filters, dim=1) @ upscaled.flatten(2)).reshape(-1, MASKS, side, side)
        return masks, torch.sigmoid(self.iou_prediction_head(tokens[:, 1]))


class Sam2Decoder(nn.Module):
    """The exportable graph: the encoder's outputs and prompts to every mask that SAM 2 predicts."""

    def __init__(self) -> None:
        super().__init__()
        self.sam_prompt_encoder = PromptEncoder()
        self.sam_mask_decoder = MaskDecoder()

    def forward(
        self,
        embedding: Tensor,
        high_res_0: Tensor,
        high_res_1: Tensor,
        points: Tensor,
        labels: Tensor,
        mask_input: Tensor,
        has_mask: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Decode a batch; every tensor is FP32.

        Args:
            embedding, high_res_0, high_res_1: [B,256,64,64], [B,32,256,256], [B,64,128,128], from the encoder.
            points: [B,N,2], (x, y) in pixels of the image stretched to 1024x1024.
            labels: [B,N], as `families.sam.modules.SamDecoder` takes them. SAM 2 was trained to see a -1 after
                every prompt, a box too.
            mask_input: [B,1,256,256], the logits of an earlier answer.
            has_mask: [B,1], 1 to use `mask_input`, 0 to ignore it.

        Returns:
            masks [B,4,256,256], logits, positive inside: first the single-mask token's, then the three
            alternatives; scores [B,4], their predicted IoU.
        """
        encoder = self.sam_prompt_encoder
        prompts = encoder.embed_points(points, labels)
        hide = ((labels == FILLER).to(points.dtype) * HIDDEN)[:, None, None, :]
        image = embedding + encoder.embed_mask(mask_input, has_mask)
        fine = high_res_0, high_res_1
        decoded: tuple[Tensor, Tensor] = self.sam_mask_decoder(
            image, encoder.image_positions(), fine, prompts, hide
        )
        return decoded
