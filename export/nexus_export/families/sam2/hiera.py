"""Hiera, the image backbone of SAM 2: a hierarchical vision transformer with windowed attention, in torch.

Written from the papers (Ryali et al. 2023, arXiv:2306.00989; the positions: Bolya et al. 2023, arXiv:2311.05613; SAM 2:
Ravi et al. 2024, arXiv:2408.00714) and checked against the published code, sam2/modeling/backbones/hieradet.py, whose
state-dict keys it keeps.

Features are channels-last, [B,H,W,C], within the backbone. The first block of every stage but the first halves the
height and width and doubles the channels and the heads.
"""

from collections import OrderedDict
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional

from nexus_export.families.sam import windows
from nexus_export.families.sam.constants import IMAGE_SIZE

# The patches' stride: the first stage works on a quarter of the image's size.
STRIDE = 4

_EPSILON = 1e-6


@dataclass(frozen=True)
class HieraConfig:
    """The sizes of a Hiera. Those of `heads`, `windows` and `global_blocks` do not show in the weights' shapes.

    `width` and `heads` are the first stage's; `stages` and `windows` hold each stage's blocks and window side;
    `global_blocks` attend to the whole picture; `background` is the side of the stretched part of the positions.
    """

    width: int
    heads: int
    stages: tuple[int, int, int, int]
    global_blocks: tuple[int, ...]
    background: int
    windows: tuple[int, int, int, int] = (8, 4, 14, 7)

    @property
    def starts(self) -> tuple[int, ...]:
        """The index of each stage's first block."""
        return (0, *accumulate(self.stages[:-1]))

    @property
    def channels(self) -> tuple[int, ...]:
        """Each stage's channels."""
        return tuple(self.width << stage for stage in range(len(self.stages)))


class MultiLayerPerceptron(nn.Module):
    """Two linear layers with a GELU between them, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(width, 4 * width), nn.Linear(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers[1](functional.gelu(self.layers[0](x)))
        return out


class MultiScaleAttention(nn.Module):
    """Attention within each [H,W] of a batch; with `pools`, of its queries every 2 x 2 are one, their maximum."""

    def __init__(self, width: int, out_width: int, heads: int, *, pools: bool) -> None:
        super().__init__()
        self.heads = heads
        self.pools = pools
        self.qkv = nn.Linear(width, 3 * out_width)
        self.proj = nn.Linear(out_width, out_width)

    def forward(self, x: Tensor) -> Tensor:
        """From [B,H,W,C] to [B,H,W,C'], or [B,H/2,W/2,C'] with pooling."""
        height, width, _ = _sizes(x)
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        if self.pools:
            q = pool(q)
            height, width = height // 2, width // 2
        mixed = functional.scaled_dot_product_attention(self._split(q), self._split(k), self._split(v))
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(-1, height, width, self.proj.in_features))
        return out

    def _split(self, x: Tensor) -> Tensor:
        """[B,H,W,C] to [B,heads,H*W,C/heads]."""
        height, width, channels = _sizes(x)
        return x.reshape(-1, height * width, self.heads, channels // self.heads).transpose(1, 2)


class MultiScaleBlock(nn.Module):
    """A transformer block whose attention sees windows of side `window`, or everything where that is 0."""

    def __init__(self, width: int, out_width: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.pools = width != out_width
        self.norm1 = nn.LayerNorm(width, eps=_EPSILON)
        self.attn = MultiScaleAttention(width, out_width, heads, pools=self.pools)
        self.norm2 = nn.LayerNorm(out_width, eps=_EPSILON)
        self.mlp = MultiLayerPerceptron(out_width)
        if self.pools:
            self.proj = nn.Linear(width, out_width)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        kept = pool(self.proj(normed)) if self.pools else x
        if self.window:
            side, _, width = _sizes(normed)
            seen = self.attn(windows.split(normed, side, self.window, width))
            side, _, width = _sizes(kept)
            seen = windows.join(seen, side, self.window // 2 if self.pools else self.window, width)
        else:
            seen = self.attn(normed)
        x = kept + seen
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class Hiera(nn.Module):
    """The backbone: an image to the features of its four stages."""

    interpolation: Tensor

    def __init__(self, config: HieraConfig) -> None:
        super().__init__()
        self.config = config
        patches = nn.Conv2d(3, config.width, 7, stride=STRIDE, padding=3)
        self.patch_embed = nn.Sequential(OrderedDict(proj=patches))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.width, config.background, config.background))
        self.pos_embed_window = nn.Parameter(
            torch.zeros(1, config.width, config.windows[0], config.windows[0])
        )
        self.blocks = nn.ModuleList(self._blocks())
        matrix = bicubic_matrix(config.background, IMAGE_SIZE // STRIDE)
        self.register_buffer("interpolation", matrix, persistent=False)

    def _blocks(self) -> list[MultiScaleBlock]:
        config, blocks = self.config, []
        for stage, count in enumerate(config.stages):
            for index in range(config.starts[stage], config.starts[stage] + count):
                # The block that leads over to a stage still works on the windows of the stage before.
                leads_over = stage > 0 and index == config.starts[stage]
                before = stage - 1 if leads_over else stage
                window = 0 if index in config.global_blocks else config.windows[before]
                widths = config.channels[before], config.channels[stage]
                blocks.append(MultiScaleBlock(*widths, config.heads << stage, window))
        return blocks

    def positions(self) -> Tensor:
        """The addend of the patches, [1,H,W,C]: one small map stretched over all, one repeated in each window."""
        stretched = self.interpolation @ self.pos_embed @ self.interpolation.T
        count = IMAGE_SIZE // STRIDE // self.config.windows[0]
        return (stretched + self.pos_embed_window.repeat(1, 1, count, count)).permute(0, 2, 3, 1)

    def forward(self, image: Tensor) -> list[Tensor]:
        """From FP32 [B,3,1024,1024], normalised, to [B,C,256,256], [B,2C,128,128], [B,4C,64,64], [B,8C,32,32]."""
        x: Tensor = self.patch_embed(image)
        x = x.permute(0, 2, 3, 1) + self.positions()
        ends = [start + count - 1 for start, count in zip(self.config.starts, self.config.stages)]
        features = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in ends:
                features.append(x.permute(0, 3, 1, 2))
        return features


def pool(x: Tensor) -> Tensor:
    """The maximum of every 2 x 2: [B,H,W,C] to [B,H/2,W/2,C]."""
    return functional.max_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


def _sizes(x: Tensor) -> tuple[int, int, int]:
    """Height, width and channels of [B,H,W,C] as numbers: they are the same for every image, and are not traced."""
    height, width, channels = (int(size) for size in x.shape[1:])
    return height, width, channels


def bicubic_matrix(size: int, out_size: int) -> Tensor:
    """The matrix [out_size,size] that stretches a line as torch's bicubic interpolation does.

    Interpolating is linear and one axis at a time, so a product from both sides stretches a map: exactly that, and an
    operation that every engine has.
    """
    lines = torch.eye(size).reshape(1, size, size, 1)
    return functional.interpolate(lines, size=(out_size, 1), mode="bicubic")[0, :, :, 0].T.contiguous()
