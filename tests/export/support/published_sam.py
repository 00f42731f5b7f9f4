"""SAM's published image encoder, out of the segment-anything package, and checkpoints of it with random weights."""

import importlib
import importlib.util
import sys
import types
from functools import partial
from typing import Any

import torch
from nexus_export.families.sam.modules import SamDecoder
from nexus_export.families.sam.tiny_vit import TinyVit
from nexus_export.families.sam.vit import VitConfig, VitEncoder
from torch import Tensor, nn


def image_encoder(config: VitConfig) -> nn.Module:
    """`ImageEncoderViT` of these sizes, as segment_anything/build_sam.py makes it."""
    encoder: nn.Module = _published_module("image_encoder").ImageEncoderViT(
        img_size=16 * config.grid,
        embed_dim=config.width,
        depth=config.depth,
        num_heads=config.heads,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=config.window,
        global_attn_indexes=tuple(config.global_blocks),
    )
    return encoder.eval()


def random_state(encoder: VitConfig | None, seed: int = 0) -> dict[str, Tensor]:
    """A checkpoint's state dict under the published names: of a ViT of these sizes, or None for MobileSAM's.

    Weights are seeded and random, and of a size that keeps activations near 1; attention and relative positions are
    strong enough to show in the embedding.
    """
    with torch.device("meta"):
        module = TinyVit() if encoder is None else VitEncoder(encoder)
        parts = {f"image_encoder.{name}": tensor for name, tensor in module.state_dict().items()}
        parts |= SamDecoder().state_dict()
    if encoder is None:
        # The classifier that mobile_sam.pt still holds.
        for name, width in (("norm_head", 320), ("head", 1000)):
            shape = (width,) if name == "norm_head" else (width, 320)
            parts[f"image_encoder.{name}.weight"] = torch.empty(shape, device="meta")
            parts[f"image_encoder.{name}.bias"] = torch.empty(width, device="meta")
    rng = torch.Generator().manual_seed(seed)
    return {name: _random(name, tensor, rng) for name, tensor in parts.items()}


def _random(name: str, like: Tensor, rng: torch.Generator) -> Tensor:
    leaf = name.rpartition(".")[2]
    if not like.is_floating_point():
        return torch.zeros(like.shape, dtype=like.dtype)
    noise = torch.randn(like.shape, generator=rng)
    if leaf == "running_var":
        return 1 + 0.1 * noise.abs()
    if leaf == "weight" and like.dim() == 1:
        return 1 + 0.1 * noise
    scale: float = like[0].numel() ** -0.5 if leaf == "weight" and like.dim() > 1 else 0.1
    return noise * scale


def _published_module(name: str) -> Any:
    """A module of segment_anything.modeling, without the package's own __init__, which wants torchvision."""
    if "segment_anything" not in sys.modules:
        spec = importlib.util.find_spec("segment_anything")
        assert spec is not None
        package = types.ModuleType("segment_anything")
        package.__path__ = list(spec.submodule_search_locations or [])
        sys.modules["segment_anything"] = package
    return importlib.import_module(f"segment_anything.modeling.{name}")
