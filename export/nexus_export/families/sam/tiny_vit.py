"""MobileSAM's image encoder, a TinyViT, in torch under the published names.

Written from the papers (TinyViT: Wu et al. 2022, arXiv:2207.10666; MobileSAM: Zhang et al. 2023, arXiv:2306.14289) and
checked against the published export of the trained network. Its four stages work at a fourth, an eighth and a
sixteenth of the image's side; the third merge keeps the size, so that the embedding has SAM's 64 by 64.

Tokens are [B,side,side,width], planes [B,width,side,side].
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from nexus_export.families.sam import windows
from nexus_export.families.sam.image_encoder import neck

HEAD_WIDTH = 32


@dataclass(frozen=True)
class Stage:
    """The sizes of one of the encoder's stages; the first has convolutions in place of attention, and no window."""

    width: int
    depth: int
    side: int
    window: int = 0


PUBLISHED = (Stage(64, 2, 256), Stage(128, 2, 128, 7), Stage(160, 6, 64, 14), Stage(320, 2, 64, 7))


class ConvNorm(nn.Module):
    """A convolution and batch normalisation; `fold_norms` makes one convolution of the two."""

    def __init__(self, inside: int, outside: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(outside)

    def forward(self, planes: Tensor) -> Tensor:
        out: Tensor = self.bn(self.c(planes))
        return out


def fold_norms(module: nn.Module) -> None:
    """Make each `ConvNorm` one convolution, `c`, with a bias; `module` must be in eval mode."""
    for part in module.modules():
        if isinstance(part, ConvNorm) and isinstance(part.bn, nn.BatchNorm2d):
            part.c = fuse_conv_bn_eval(part.c, part.bn)
            part.bn = nn.Identity()


class PatchEmbedding(nn.Module):
    """Planes of the image to planes of a fourth of its side."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            ConvNorm(3, width // 2, 3, stride=2), nn.GELU(), ConvNorm(width // 2, width, 3, stride=2)
        )

    def forward(self, planes: Tensor) -> Tensor:
        out: Tensor = self.seq(planes)
        return out


class InvertedBottleneck(nn.Module):
    """A block of the first stage (MobileNetV2's: Sandler et al. 2018, arXiv:1801.04381)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inside = 4 * width
        self.conv1 = ConvNorm(width, inside)
        self.conv2 = ConvNorm(inside, inside, 3, groups=inside)
        self.conv3 = ConvNorm(inside, width)

    def forward(self, planes: Tensor) -> Tensor:
        inside = functional.gelu(self.conv2(functional.gelu(self.conv1(planes))))
        return functional.gelu(planes + self.conv3(inside))


class Merge(nn.Module):
    """From one stage's planes to the next one's."""

    def __init__(self, stage: Stage, following: Stage) -> None:
        super().__init__()
        width = following.width
        self.conv1 = ConvNorm(stage.width, width)
        self.conv2 = ConvNorm(width, width, 3, stride=stage.side // following.side, groups=width)
        self.conv3 = ConvNorm(width, width)

    def forward(self, planes: Tensor) -> Tensor:
        out: Tensor = self.conv3(functional.gelu(self.conv2(functional.gelu(self.conv1(planes)))))
        return out


class Attention(nn.Module):
    """Multi-head attention inside a window, biased by how far two tokens are apart, in rows and in columns."""

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        self.width, self.window, self.heads = width, window, width // HEAD_WIDTH
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(self.heads, window * window))

    def forward(self, tokens: Tensor) -> Tensor:
        """[B,window,window,width] to the same."""
        count = self.window * self.window
        qkv = self.qkv(self.norm(tokens)).reshape(-1, count, self.heads, 3 * HEAD_WIDTH)
        q, k, v = (x.transpose(1, 2) for x in qkv.split(HEAD_WIDTH, dim=3))
        bias = self.attention_biases[:, self._distances()][None]
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(-1, self.window, self.window, self.width))
        return out

    def _distances(self) -> Tensor:
        """Where a pair of tokens finds its bias: rows apart * window + columns apart, [count,count]."""
        places = torch.arange(self.window, device=self.attention_biases.device)
        apart = (places[:, None] - places).abs()
        pairs = apart[:, None, :, None] * self.window + apart[None, :, None, :]
        return pairs.reshape(self.window**2, self.window**2)


class Mlp(nn.Module):
    """Two linear layers with GELU between them, on normalised tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.fc2(functional.gelu(self.fc1(self.norm(tokens))))
        return out


class Block(nn.Module):
    """Attention inside windows, a convolution across their borders, then the perceptron."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage
        self.attn = Attention(stage.width, stage.window)
        self.local_conv = ConvNorm(stage.width, stage.width, 3, groups=stage.width)
        self.mlp = Mlp(stage.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B,side,side,width] to the same."""
        sizes = self.stage.side, self.stage.window, self.stage.width
        tokens = tokens + windows.join(self.attn(windows.split(tokens, *sizes)), *sizes)
        tokens = self.local_conv(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        out: Tensor = tokens + self.mlp(tokens)
        return out


class Layer(nn.Module):
    """A stage, and the merge that leads to the next, if any: planes to planes."""

    def __init__(self, stage: Stage, following: Stage | None) -> None:
        super().__init__()
        self.stage = stage
        self.blocks = nn.ModuleList(
            Block(stage) if stage.window else InvertedBottleneck(stage.width) for _ in range(stage.depth)
        )
        if following is not None:
            self.downsample = Merge(stage, following)

    def forward(self, planes: Tensor) -> Tensor:
        x = planes.permute(0, 2, 3, 1) if self.stage.window else planes
        for block in self.blocks:
            x = block(x)
        x = x.permute(0, 3, 1, 2) if self.stage.window else x
        return self.downsample(x) if hasattr(self, "downsample") else x


class TinyVit(nn.Module):
    """Normalised planes FP32 [B,3,1024,1024] to an embedding [B,256,64,64]."""

    def __init__(self, stages: tuple[Stage, ...] = PUBLISHED) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding(stages[0].width)
        self.layers = nn.ModuleList(
            Layer(stage, following) for stage, following in zip(stages, (*stages[1:], None), strict=True)
        )
        self.neck = neck(stages[-1].width)

    def forward(self, planes: Tensor) -> Tensor:
        x = self.patch_embed(planes)
        for layer in self.layers:
            x = layer(x)
        embedding: Tensor = self.neck(x)
        return embedding
