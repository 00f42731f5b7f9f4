"""The networks of Stable Diffusion inpainting, one module per exportable graph, around the published models.

Every module holds the models under the name of their folder in a diffusers checkpoint, so that its state
dict reads "unet.conv_in.weight", "vae.decoder.conv_in.weight". Latents are the samplers':
the autoencoder's, times its scaling factor. B is the batch, H and W are pixels, h and w an eighth of them.
"""

from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

# Tokens of a prompt, CLIP's fixed length.
TOKENS = 77
_LEGACY_END_TOKEN = 2


class _ClipLayers(nn.Module):
    """Runs CLIP's text transformer with a mask of its own: transformers builds one that cannot be traced."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        mask = torch.full((TOKENS, TOKENS), -torch.inf).triu(1)
        self.register_buffer("mask", mask[None, None], persistent=False)

    def forward(self, encoder: Any, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """The hidden states [B,77,d] before the last layer and after it."""
        hidden = encoder.embeddings.token_embedding(input_ids) + encoder.embeddings.position_embedding.weight
        penultimate = hidden
        for layer in encoder.encoder.layers:
            penultimate, hidden = hidden, layer(hidden, self.mask)
        return penultimate, hidden


def _of_open_width(tensor: Tensor) -> Tensor:
    """The tensor itself [B,...,d], cut off far behind its end, so that engines do not infer its width.

    Triton wants an output's dims in the config to be those that the engine reports, and one config serves
    checkpoints of every width.
    """
    return tensor[..., : tensor.shape[0] * (1 << 20)]


class SdxlTextEncoder(nn.Module):
    """Both text encoders of SDXL, as `StableDiffusionXLInpaintPipeline.encode_prompt` uses them."""

    def __init__(self, text_encoder: CLIPTextModel, text_encoder_2: CLIPTextModelWithProjection) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.text_encoder_2 = text_encoder_2
        self._layers = _ClipLayers()

    def forward(self, input_ids: Tensor, input_ids_2: Tensor) -> tuple[Tensor, Tensor]:
        """Encode prompts.

        Args:
            input_ids: INT32 [B,77], the first tokenizer's, padded with the end token.
            input_ids_2: INT32 [B,77], the second tokenizer's, padded with 0.

        Returns:
            context FP32 [B,77,d1+d2], the hidden states before each encoder's last layer, side by side, and
            pooled FP32 [B,p], the second encoder's projection of the first end token's last hidden state.
        """
        first, _ = self._layers(self.text_encoder, input_ids)
        model = self.text_encoder_2.text_model
        second, last = self._layers(model, input_ids_2)
        # Configurations older than transformers 4.31 name a wrong end token; the right one is the highest id.
        legacy = model.eos_token_id == _LEGACY_END_TOKEN
        end = (input_ids_2 if legacy else (input_ids_2 == model.eos_token_id).int()).argmax(dim=1)
        last = model.final_layer_norm(last)
        at_end = last.gather(1, end[:, None, None].expand(-1, 1, last.shape[2]))[:, 0]
        context = torch.cat([first, second], dim=2)
        return _of_open_width(context), _of_open_width(self.text_encoder_2.text_projection(at_end))


class Sd15TextEncoder(nn.Module):
    """The text encoder of SD 1.5, as `StableDiffusionInpaintPipeline.encode_prompt` uses it."""

    def __init__(self, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self._layers = _ClipLayers()

    def forward(self, input_ids: Tensor) -> Tensor:
        """Encode INT32 [B,77] to context FP32 [B,77,d]: the last hidden states after the final norm."""
        _, last = self._layers(self.text_encoder, input_ids)
        return _of_open_width(self.text_encoder.final_layer_norm(last))


class _Vae(nn.Module):
    scaling_factor: Tensor

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae
        # A weight, not a constant: SDXL's and SD 1.5's autoencoders are one graph but for this number.
        self.register_buffer("scaling_factor", torch.tensor(float(vae.config.scaling_factor)))


class VaeEncoder(_Vae):
    """Pixels to latents, deterministic: the mean of the posterior."""

    def forward(self, image: Tensor) -> Tensor:
        """Encode UINT8 [B,H,W,3], RGB, to latents FP32 [B,4,H/8,W/8]."""
        pixels = image.permute(0, 3, 1, 2).float() / 255.0 * 2.0 - 1.0
        moments = self.vae.quant_conv(self.vae.encoder(pixels))
        mean: Tensor = moments.chunk(2, dim=1)[0]
        return mean * self.scaling_factor


class VaeDecoder(_Vae):
    """Latents to pixels."""

    def forward(self, latent: Tensor) -> Tensor:
        """Decode latents FP32 [B,4,h,w] to UINT8 [B,8h,8w,3], RGB, rounded and clamped."""
        pixels: Tensor = self.vae.decoder(self.vae.post_quant_conv(latent / self.scaling_factor))
        levels = (pixels * 0.5 + 0.5).clamp(0.0, 1.0) * 255.0
        return levels.round().to(torch.uint8).permute(0, 2, 3, 1)


class SdxlUnet(nn.Module):
    """SDXL's UNet with 9 input channels: latents, mask, latents of the masked image."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self, sample: Tensor, timestep: Tensor, context: Tensor, pooled: Tensor, time_ids: Tensor
    ) -> Tensor:
        """Predict the noise FP32 [B,4,h,w].

        Args:
            sample: FP32 [B,9,h,w], already scaled by the sampler; the mask is 1 where to paint.
            timestep: FP32 [B,1] in [0, 999].
            context: FP32 [B,77,d].
            pooled: FP32 [B,p].
            time_ids: FP32 [B,6]: original height and width, top and left of the crop, height and width wanted.
        """
        conditions = {"text_embeds": pooled, "time_ids": time_ids}
        noise: Tensor = self.unet(
            sample, timestep[:, 0], context, added_cond_kwargs=conditions, return_dict=False
        )[0]
        return noise


class Sd15Unet(nn.Module):
    """SD 1.5's UNet with 9 input channels: latents, mask, latents of the masked image."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        """Predict the noise FP32 [B,4,h,w] from sample [B,9,h,w], timestep [B,1] and context [B,77,d]."""
        noise: Tensor = self.unet(sample, timestep[:, 0], context, return_dict=False)[0]
        return noise
