"""Square windows that tile a square of tokens; attention inside them costs a fraction of attention over all.

The image encoders of SAM, MobileSAM and SAM 2 use them. Sizes are plain numbers, so that a traced graph reshapes to
constants.
"""

from torch import Tensor
from torch.nn import functional


def split(tokens: Tensor, side: int, window: int, width: int) -> Tensor:
    """Tokens [B,side,side,width] to windows [B*n*n,window,window,width], zeros beyond the right and lower edge."""
    count = -(-side // window)
    if missing := count * window - side:
        tokens = functional.pad(tokens, (0, 0, 0, missing, 0, missing))
    tiled = tokens.reshape(-1, count, window, count, window, width)
    return tiled.transpose(2, 3).reshape(-1, window, window, width)


def join(windows: Tensor, side: int, window: int, width: int) -> Tensor:
    """The inverse of `split`: tokens [B,side,side,width], without the padding beyond the edges."""
    count = -(-side // window)
    tiled = windows.reshape(-1, count, count, window, window, width)
    tokens = tiled.transpose(2, 3).reshape(-1, count * window, count * window, width)
    return tokens[:, :side, :side] if count * window > side else tokens
