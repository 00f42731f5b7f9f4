"""transformers' Sam2Model, an implementation of SAM 2.1 that is not ours, on weights under their published names."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from nexus_export.families.imagenet import PIXEL_MEAN, PIXEL_STD
from nexus_export.families.sam2.hiera import HieraConfig
from numpy.typing import NDArray
from torch import Tensor
from transformers import Sam2Config, Sam2HieraDetConfig, Sam2Model, Sam2VisionConfig

Floats = NDArray[np.float32]

# Published names, as patterns, and transformers' instead; the first that fits counts, several times.
_NAMES = (
    (r"^no_mem_embed$", "no_memory_embedding"),
    (r"^image_encoder\.trunk\.patch_embed\.proj\.", "vision_encoder.backbone.patch_embed.projection."),
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"^image_encoder\.neck\.convs\.(\d)\.conv\.", r"vision_encoder.neck.convs.\1."),
    (r"^sam_prompt_encoder\.pe_layer\..*", "shared_image_embedding.positional_embedding"),
    (r"^sam_prompt_encoder\.mask_downscaling\.0", "prompt_encoder.mask_embed.conv1"),
    (r"^sam_prompt_encoder\.mask_downscaling\.1", "prompt_encoder.mask_embed.layer_norm1"),
    (r"^sam_prompt_encoder\.mask_downscaling\.3", "prompt_encoder.mask_embed.conv2"),
    (r"^sam_prompt_encoder\.mask_downscaling\.4", "prompt_encoder.mask_embed.layer_norm2"),
    (r"^sam_prompt_encoder\.mask_downscaling\.6", "prompt_encoder.mask_embed.conv3"),
    (r"^sam_prompt_encoder\.", "prompt_encoder."),
    (r"^sam_mask_decoder\.output_upscaling\.0", "mask_decoder.upscale_conv1"),
    (r"^sam_mask_decoder\.output_upscaling\.1", "mask_decoder.upscale_layer_norm"),
    (r"^sam_mask_decoder\.output_upscaling\.3", "mask_decoder.upscale_conv2"),
    (r"^sam_mask_decoder\.", "mask_decoder."),
    (r"\bnorm(\d|_final_attn)\b", r"layer_norm\1"),
    (r"\bout_proj\b", "o_proj"),
    # A perceptron's layers: of two, the ends; of three, the one between them is 0.
    (r"\bmlp\.layers\.0\b", "mlp.proj_in"),
    (r"\bmlp\.layers\.1\b", "mlp.proj_out"),
    (r"(output_hypernetworks_mlps\.\d|head)\.layers\.0\b", r"\1.proj_in"),
    (r"(output_hypernetworks_mlps\.\d|head)\.layers\.2\b", r"\1.proj_out"),
    (r"(output_hypernetworks_mlps\.\d|head)\.layers\.1\b", r"\1.layers.0"),
)
# Weights that only a video needs; of these, transformers' model has a head whose result is not compared.
_UNUSED = ("memory_", "maskmem_", "mask_decoder.pred_obj_score_head.")


class PublishedSam2:
    """The reference: the three maps of an image, and all four masks of a prompt."""

    def __init__(self, state: Mapping[str, Tensor], config: HieraConfig) -> None:
        heads = [config.heads << stage for stage in range(4)]
        backbone = Sam2HieraDetConfig(
            hidden_size=config.width,
            num_attention_heads=config.heads,
            blocks_per_stage=list(config.stages),
            embed_dim_per_stage=list(config.channels),
            num_attention_heads_per_stage=heads,
            window_size_per_stage=list(config.windows),
            global_attention_blocks=list(config.global_blocks),
            window_positional_embedding_background_size=[config.background] * 2,
        )
        vision = Sam2VisionConfig(
            backbone_config=backbone, backbone_channel_list=[*reversed(config.channels)]
        )
        self._model: Any = Sam2Model(Sam2Config(vision_config=vision)).eval()
        renamed = _renamed(state)
        missing, surplus = self._model.load_state_dict(renamed, strict=False)
        assert not surplus
        assert all(name.startswith(_UNUSED) for name in missing)

    @torch.no_grad()
    def encode(self, image: NDArray[np.uint8]) -> dict[str, Floats]:
        """UINT8 [B,1024,1024,3] to the outputs of sam2_encoder, after the published SAM2Transforms."""
        pixels = (torch.from_numpy(image) / 255 - torch.tensor(PIXEL_MEAN)) / torch.tensor(PIXEL_STD)
        first, second, embedding = self._model.get_image_embeddings(pixels.permute(0, 3, 1, 2))
        maps = {"embedding": embedding, "high_res_0": first, "high_res_1": second}
        return {name: value.numpy() for name, value in maps.items()}

    @torch.no_grad()
    def decode(
        self, maps: Mapping[str, Floats], points: Floats, labels: Floats, mask: Floats | None
    ) -> list[Floats]:
        """One image's maps, points [N,2] and labels [N] without the -1 that it appends, `mask` [256,256].

        Returns masks [4,256,256] and scores [4].
        """
        tokens = []
        for several in (False, True):
            # Without the choice that follows: the single-mask token itself.
            self._model.mask_decoder.dynamic_multimask_via_stability = False
            found = self._model(
                image_embeddings=[
                    torch.from_numpy(maps[name]) for name in ("high_res_0", "high_res_1", "embedding")
                ],
                input_points=torch.from_numpy(points)[None, None],
                input_labels=torch.from_numpy(labels)[None, None].int(),
                input_masks=None if mask is None else torch.from_numpy(mask)[None, None],
                multimask_output=several,
            )
            tokens.append((found.pred_masks[0, 0], found.iou_scores[0, 0]))
        return [torch.cat(part).numpy() for part in zip(*tokens)]


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in state.items():
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    kinds = [renamed.pop(f"prompt_encoder.point_embeddings.{kind}.weight") for kind in range(4)]
    renamed["prompt_encoder.point_embed.weight"] = torch.cat(kinds)
    shared = renamed["shared_image_embedding.positional_embedding"]
    renamed["prompt_encoder.shared_embedding.positional_embedding"] = shared
    return {name: tensor for name, tensor in renamed.items() if not name.startswith(_UNUSED)}
