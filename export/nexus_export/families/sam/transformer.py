"""The two-way transformer of SAM's mask decoder: tokens and image attend to each other.

Kirillov et al. 2023 (arXiv:2304.02643), appendix A; checked against the published code,
segment_anything/modeling/transformer.py, whose state-dict keys it keeps. New is that keys can be hidden.

Shapes: tokens [B,T,256], image [B,P,256], its positions [1,P,256], `hide` [B,1,1,T], which is added to the
attention scores of tokens as keys: 0, or a number so low that the token is not seen.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

CHANNELS = 256
HEADS = 8


class Attention(nn.Module):
    """Multi-head attention that may work at a narrower width inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(CHANNELS, width)
        self.k_proj = nn.Linear(CHANNELS, width)
        self.v_proj = nn.Linear(CHANNELS, width)
        self.out_proj = nn.Linear(width, CHANNELS)
        self.head_width = width // HEADS

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_bias: Tensor | None = None) -> Tensor:
        """Attend from q [B,Q,256] to k and v [B,K,256]; `key_bias` [B,1,1,K] is added to the scores."""
        q, k, v = self._heads(self.q_proj(q)), self._heads(self.k_proj(k)), self._heads(self.v_proj(v))
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=key_bias)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], -1, HEADS, self.head_width).transpose(1, 2)


class FeedForward(nn.Module):
    """Two linear layers with `activation` between them."""

    def __init__(self, width: int, inside: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.lin1 = nn.Linear(width, inside)
        self.lin2 = nn.Linear(inside, width)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.lin2(self.activation(self.lin1(x)))
        return out


class TwoWayLayer(nn.Module):
    """Tokens attend to themselves and to the image, then the image attends to the tokens."""

    def __init__(self, *, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(CHANNELS)
        self.norm1 = nn.LayerNorm(CHANNELS)
        self.cross_attn_token_to_image = Attention(CHANNELS // 2)
        self.norm2 = nn.LayerNorm(CHANNELS)
        self.mlp = FeedForward(CHANNELS, 2048, functional.relu)
        self.norm3 = nn.LayerNorm(CHANNELS)
        self.norm4 = nn.LayerNorm(CHANNELS)
        self.cross_attn_image_to_token = Attention(CHANNELS // 2)

    def forward(
        self, tokens: Tensor, image: Tensor, token_positions: Tensor, image_positions: Tensor, hide: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.first:
            # The tokens still are their positions, so neither is added: as published.
            tokens = self.self_attn(tokens, tokens, tokens, hide)
        else:
            placed = tokens + token_positions
            tokens = tokens + self.self_attn(placed, placed, tokens, hide)
        tokens = self.norm1(tokens)

        placed_image = image + image_positions
        tokens = tokens + self.cross_attn_token_to_image(tokens + token_positions, placed_image, image)
        tokens = self.norm2(tokens)
        tokens = self.norm3(tokens + self.mlp(tokens))

        seen = self.cross_attn_image_to_token(placed_image, tokens + token_positions, tokens, hide)
        return tokens, self.norm4(image + seen)


class TwoWayTransformer(nn.Module):
    """Two layers, then the tokens look at the image once more."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([TwoWayLayer(first=True), TwoWayLayer(first=False)])
        self.final_attn_token_to_image = Attention(CHANNELS // 2)
        self.norm_final_attn = nn.LayerNorm(CHANNELS)

    def forward(
        self, tokens: Tensor, image: Tensor, image_positions: Tensor, hide: Tensor
    ) -> tuple[Tensor, Tensor]:
        positions = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, positions, image_positions, hide)
        placed = tokens + positions
        tokens = tokens + self.final_attn_token_to_image(placed, image + image_positions, image)
        return self.norm_final_attn(tokens), image
