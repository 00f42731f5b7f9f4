"""SAM 2's prompt encoder and mask decoder in torch, batched over images, with every mask they predict.

Written from the paper (Ravi et al. 2024, arXiv:2408.00714) and checked against the published code,
sam2/modeling/sam/{prompt_encoder,mask_decoder}.py, whose state-dict keys it keeps. It is SAM's (`families.sam`) with
one more token, finer maps of the image, and scores in [0, 1]; it differs from the published one as that does.
"""

import torch
from torch import Tensor, nn

from nexus_export.families.sam import modules
from nexus_export.families.sam.constants import FILLER
from nexus_export.families.sam.transformer import CHANNELS


class MaskDecoder(modules.MaskDecoder):
    """SAM's with a token for whether the object is to be seen, and with two finer maps of the image."""

    single_tokens = ("obj_score_token", "iou_token")

    def __init__(self) -> None:
        super().__init__()
        for layer in self.transformer.layers:
            # The same two layers by the names that SAM 2 gives them.
            layer.mlp = modules.Perceptron(CHANNELS, 2048, CHANNELS)

    def forward(
        self, image: Tensor, image_positions: Tensor, prompts: Tensor, hide: Tensor, *fine: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As SAM's, with `fine` [B,32,256,256] and [B,64,128,128]; scores are in [0, 1]."""
        masks, scores = super().forward(image, image_positions, prompts, hide, *fine)
        return masks, torch.sigmoid(scores)

    def upscale(self, planes: Tensor, *fine: Tensor) -> Tensor:
        """SAM's, with each map added where its size is reached."""
        first, norm, gelu, second, _ = self.output_upscaling
        upscaled = gelu(norm(first(planes) + fine[1]))
        finest: Tensor = gelu(second(upscaled) + fine[0])
        return finest


class Sam2Decoder(nn.Module):
    """The exportable graph: the encoder's outputs and prompts to every mask that SAM 2 predicts."""

    def __init__(self) -> None:
        super().__init__()
        self.sam_prompt_encoder = modules.PromptEncoder()
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
        hide = ((labels == FILLER).to(points.dtype) * modules.HIDDEN)[:, None, None, :]
        image = embedding + encoder.embed_mask(mask_input, has_mask)
        decoded: tuple[Tensor, Tensor] = self.sam_mask_decoder(
            image, encoder.image_positions(), prompts, hide, high_res_0, high_res_1
        )
        return decoded
