"""SAM's image encoder, a vision transformer (ViT-B, L or H), in torch under the published names.

Written from the paper (Kirillov et al. 2023, arXiv:2304.02643; the encoder is ViTDet's, Li et al. 2022,
arXiv:2203.16527) and checked against the published code, segment_anything/modeling/image_encoder.py.

Attention has decomposed relative positions (Li et al. 2021, arXiv:2112.01526): the score of a query at (y, x) and a
key at (j, i) is scale * q.k + q.Rh[y - j] + q.Rw[x - i]. The published code adds the last two to the matrix of scores,
one number a pair: 64 * 64 * 64 * 64 a head in a global block. Here they become part of the product, by widening
queries and keys beyond the head's own channels:

    q' = [scale * q,  q.Rh[y - 0] ... q.Rh[y - 63],  q.Rw[x - 0] ... q.Rw[x - 63]]
    k' = [k,          1 at j, else 0,                1 at i, else 0              ]

so that q'.k' is that same score, exactly, and one fused attention without a bias does the block. Values keep their
width.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from nexus_export.families.sam import windows
from nexus_export.families.sam.image_encoder import neck
from nexus_export.families.sam.transformer import FeedForward

PATCH = 16


@dataclass(frozen=True)
class VitConfig:
    """The sizes in which published encoders differ, and those that they share."""

    width: int
    depth: int
    heads: int
    global_blocks: frozenset[int]
    grid: int = 64
    window: int = 14


# By the letter of the checkpoint's name: sam_vit_b_01ec64.pth.
PUBLISHED = {
    "b": VitConfig(768, 12, 12, frozenset({2, 5, 8, 11})),
    "l": VitConfig(1024, 24, 16, frozenset({5, 11, 17, 23})),
    "h": VitConfig(1280, 32, 16, frozenset({7, 15, 23, 31})),
}


def config_of(state: Mapping[str, Tensor]) -> VitConfig:
    """The sizes of the encoder whose weights, named as in `VitEncoder`, are `state`.

    Raises KeyError, with the weight's name, if one that fixes a size is missing.
    """
    _, grid, _, width = state["pos_embed"].shape
    depth = 1 + max(
        (int(found[1]) for name in state if (found := re.match(r"blocks\.(\d+)\.", name))), default=0
    )
    tables = [state[f"blocks.{block}.attn.rel_pos_h"].shape for block in range(depth)]
    # A table has an entry for each distance from -(side - 1) to side - 1.
    sides = [(distances + 1) // 2 for distances, _ in tables]
    windowed = [side for side in sides if side != grid]
    return VitConfig(
        width,
        depth,
        heads=width // tables[0][1],
        global_blocks=frozenset(block for block, side in enumerate(sides) if side == grid),
        grid=grid,
        window=windowed[0] if windowed else grid,
    )


class Attention(nn.Module):
    """Multi-head attention among `side` * `side` tokens, with relative positions; see the module's text."""

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.width, self.heads, self.side = width, heads, side
        self.head_width = width // heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, self.head_width))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, self.head_width))

    def forward(self, tokens: Tensor) -> Tensor:
        """[B,side,side,width] to the same."""
        side, heads, each = self.side, self.heads, self.head_width
        qkv = self.qkv(tokens).reshape(-1, side * side, 3, heads, each)
        q, k, v = qkv.unbind(2)
        q = torch.cat([q * each**-0.5, self._rows(q), self._columns(q)], dim=-1)
        k = torch.cat([k, self._places(k)], dim=-1)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        mixed = functional.scaled_dot_product_attention(q, k, v, scale=1.0)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(-1, side, side, self.width))
        return out

    def _rows(self, q: Tensor) -> Tensor:
        """q.Rh for every row of keys: [B,side*side,heads,side]."""
        side, heads = self.side, self.heads
        rows = q.reshape(-1, side, side * heads, self.head_width)
        return (rows @ self._by_pair(self.rel_pos_h)).reshape(-1, side * side, heads, side)

    def _columns(self, q: Tensor) -> Tensor:
        """q.Rw for every column of keys: [B,side*side,heads,side]."""
        side, heads = self.side, self.heads
        columns = q.reshape(-1, side, side, heads * self.head_width).transpose(1, 2)
        columns = columns.reshape(-1, side, side * heads, self.head_width)
        shares = (columns @ self._by_pair(self.rel_pos_w)).reshape(-1, side, side, heads * side)
        return shares.transpose(1, 2).reshape(-1, side * side, heads, side)

    def _by_pair(self, table: Tensor) -> Tensor:
        """The table's entries by the place of the query, [side], and of the key: [side,head_width,side]."""
        places = torch.arange(self.side, device=table.device)
        return table[places[:, None] - places + self.side - 1].transpose(1, 2)

    def _places(self, k: Tensor) -> Tensor:
        """Each key's row and column, one-hot: [B,side*side,heads,2*side]."""
        side = self.side
        ones = torch.eye(side, dtype=k.dtype, device=k.device)
        rows = ones[:, None].expand(side, side, side)
        columns = ones[None].expand(side, side, side)
        places = torch.cat([rows, columns], dim=-1).reshape(1, side * side, 1, 2 * side)
        return places.expand(k.shape[0], side * side, self.heads, 2 * side)


class Block(nn.Module):
    """Attention, of all tokens or inside windows, then the perceptron."""

    def __init__(self, config: VitConfig, *, is_global: bool) -> None:
        super().__init__()
        self.config, self.is_global = config, is_global
        self.norm1 = nn.LayerNorm(config.width, eps=1e-6)
        self.attn = Attention(config.width, config.heads, config.grid if is_global else config.window)
        self.norm2 = nn.LayerNorm(config.width, eps=1e-6)
        self.mlp = FeedForward(config.width, 4 * config.width, functional.gelu)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B,grid,grid,width] to the same."""
        grid, window, width = self.config.grid, self.config.window, self.config.width
        normed = self.norm1(tokens)
        if self.is_global:
            mixed = self.attn(normed)
        else:
            mixed = windows.join(self.attn(windows.split(normed, grid, window, width)), grid, window, width)
        tokens = tokens + mixed
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out


class PatchEmbedding(nn.Module):
    """Each patch of pixels to a token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, stride=PATCH)

    def forward(self, planes: Tensor) -> Tensor:
        tokens: Tensor = self.proj(planes)
        return tokens.permute(0, 2, 3, 1)


class VitEncoder(nn.Module):
    """Normalised planes FP32 [B,3,16*grid,16*grid] to an embedding [B,256,grid,grid]."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbedding(config.width)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.grid, config.grid, config.width))
        self.blocks = nn.ModuleList(
            Block(config, is_global=block in config.global_blocks) for block in range(config.depth)
        )
        self.neck = neck(config.width)

    def forward(self, planes: Tensor) -> Tensor:
        tokens = self.patch_embed(planes) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        embedding: Tensor = self.neck(tokens.permute(0, 3, 1, 2))
        return embedding
