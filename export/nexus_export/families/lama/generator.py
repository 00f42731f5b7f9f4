"""LaMa's generator: fast Fourier convolutions between a strided encoder and decoder.

Suvorov et al. 2021 (arXiv:2109.07161); the convolution is Chi et al. 2020 (Fast Fourier Convolution).
Parameter names and layer indexes are those of the published big-lama weights, at any width and depth.
Knows nothing of pixels, masks or files.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from nexus_export.families.lama.dft import FourierBasis, fourier_basis, irfft2, rfft2
from nexus_export.families.lama.grain import BANDS


@dataclass(frozen=True)
class GeneratorConfig:
    """Size of a generator; the defaults are big-lama (51 million parameters)."""

    # Channels after the first convolution; each downsampling doubles them.
    width: int = 64
    downsamplings: int = 3
    blocks: int = 18
    # Share of the bottleneck's channels that take the Fourier path.
    global_ratio: float = 0.75
    max_width: int = 1024
    # "sigmoid": an image in [0, 1]. "residual": an unbounded correction to the image that was fed in, and the amplitude
    # of every band of noise (`grain`).
    output: Literal["sigmoid", "residual"] = "sigmoid"

    def channels(self, level: int) -> int:
        """Channels after `level` downsamplings."""
        return min(self.max_width, self.width << level)

    @property
    def outputs(self) -> int:
        """Channels of the output."""
        return OUT_CHANNELS if self.output == "sigmoid" else OUT_CHANNELS + BANDS


IN_CHANNELS = 4  # RGB and the mask
OUT_CHANNELS = 3
# Of a residual: the last layer sums hundreds of inputs, and unscaled, the noise of the first training steps is so loud
# that training silences the whole decoder to be rid of it.
RESIDUAL_SCALE = 0.1


class FourierUnit(nn.Module):
    """A 1x1 convolution in the frequency domain: a receptive field as large as the image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_layer = nn.Conv2d(channels * 2, channels * 2, kernel_size=1, bias=False)
        self.bn = nn.BatchNorm2d(channels * 2)

    def forward(self, x: Tensor, basis: FourierBasis | None) -> Tensor:
        """[B, C, H, W] to the same shape; through torch.fft where `basis` is None."""
        batch, channels, height, width = x.shape
        x = x.float()  # the transform stays FP32 under autocast: its sums run over the whole image
        if basis is None:
            transform = torch.fft.rfft2(x, norm="ortho")
            real, imaginary = transform.real, transform.imag
        else:
            real, imaginary = rfft2(x, basis)
        # The published weights expect real and imaginary parts interleaved channel by channel.
        spectrum = torch.stack([real, imaginary], dim=2).flatten(1, 2)
        spectrum = functional.relu(self.bn(self.conv_layer(spectrum)))
        parts = spectrum.float().reshape(batch, channels, 2, height, width // 2 + 1)
        real, imaginary = parts[:, :, 0], parts[:, :, 1]
        if basis is None:
            image: Tensor = torch.fft.irfft2(torch.complex(real, imaginary), s=(height, width), norm="ortho")
            return image
        return irfft2(real, imaginary, basis)


class SpectralTransform(nn.Module):
    """The global-to-global path: reduce, Fourier unit with a shortcut, expand."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.conv1 = nn.Sequential(
            nn.Conv2d(in_channels, half, kernel_size=1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(inplace=True),
        )
        self.fu = FourierUnit(half)
        self.conv2 = nn.Conv2d(half, out_channels, kernel_size=1, bias=False)

    def forward(self, x: Tensor, basis: FourierBasis | None) -> Tensor:
        """[B, in, H, W] to [B, out, H, W]."""
        reduced = self.conv1(x)
        expanded: Tensor = self.conv2(reduced + self.fu(reduced, basis).to(reduced.dtype))
        return expanded


class Sizes(NamedTuple):
    """The sizes of a fast Fourier convolution; ratios are the shares of the channels that take the global path."""

    in_channels: int
    out_channels: int
    kernel_size: int
    ratio_in: float
    ratio_out: float
    stride: int = 1

    @property
    def global_in(self) -> int:
        return int(self.in_channels * self.ratio_in)

    @property
    def global_out(self) -> int:
        return int(self.out_channels * self.ratio_out)


class FastFourierConvolution(nn.Module):
    """Local and global channels, each convolved into both; the global-to-global path is spectral."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        global_in, global_out = sizes.global_in, sizes.global_out
        local_in, local_out = sizes.in_channels - global_in, sizes.out_channels - global_out
        self.padding = sizes.kernel_size // 2

        def convolution(inputs: int, outputs: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, sizes.kernel_size, sizes.stride, bias=False)

        self.convl2l = convolution(local_in, local_out)
        self.convl2g = convolution(local_in, global_out) if global_out else None
        self.convg2l = convolution(global_in, local_out) if global_in else None
        self.convg2g = SpectralTransform(global_in, global_out) if global_in else None

    def _pad(self, x: Tensor) -> Tensor:
        return functional.pad(x, (self.padding,) * 4, mode="reflect")

    def forward(
        self, local: Tensor, spread: Tensor | None, basis: FourierBasis | None
    ) -> tuple[Tensor, Tensor | None]:
        """Local and global features, [B, C, H, W] each; the global half is None where there is none."""
        padded = self._pad(local)
        local_out: Tensor = self.convl2l(padded)
        global_out: Tensor | None = None
        if self.convl2g is not None:
            global_out = self.convl2g(padded)
        if self.convg2l is not None and self.convg2g is not None and spread is not None:
            local_out = local_out + self.convg2l(self._pad(spread))
            global_out = global_out + self.convg2g(spread, basis)
        return local_out, global_out


class NormalisedConvolution(nn.Module):
    """A fast Fourier convolution, batch normalisation and ReLU on both halves."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.ffc = FastFourierConvolution(sizes)
        self.bn_l = nn.BatchNorm2d(sizes.out_channels - sizes.global_out)
        self.bn_g = nn.BatchNorm2d(sizes.global_out) if sizes.global_out else None

    def forward(
        self, local: Tensor, spread: Tensor | None, basis: FourierBasis | None
    ) -> tuple[Tensor, Tensor | None]:
        """Local and global features, [B, C, H, W] each; the global half is None where there is none."""
        local, spread = self.ffc(local, spread, basis)
        local = functional.relu(self.bn_l(local))
        if self.bn_g is not None:
            spread = functional.relu(self.bn_g(spread))
        return local, spread


class ResidualBlock(nn.Module):
    """Two normalised convolutions and a shortcut."""

    def __init__(self, channels: int, ratio: float) -> None:
        super().__init__()
        sizes = Sizes(channels, channels, 3, ratio, ratio)
        self.conv1, self.conv2 = NormalisedConvolution(sizes), NormalisedConvolution(sizes)

    def forward(self, local: Tensor, spread: Tensor, basis: FourierBasis | None) -> tuple[Tensor, Tensor]:
        """Local and global features in and out, [B, C, H, W] each."""
        inner_local, inner_spread = self.conv2(*self.conv1(local, spread, basis), basis)
        return local + inner_local, spread + inner_spread


class Generator(nn.Module):
    """LaMa's generator.

    `matrix_dft` selects the DFT by matrix products, which exports; False (training) uses torch.fft.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.matrix_dft = False
        # The list mirrors the published indexes: parameterless layers (padding, concatenation,
        # activations) hold their places with Identity and are applied in forward.
        first = Sizes(IN_CHANNELS, config.width, 7, 0, 0)
        layers: list[nn.Module] = [nn.Identity(), NormalisedConvolution(first)]
        for level in range(config.downsamplings):
            ratio = config.global_ratio if level == config.downsamplings - 1 else 0.0
            sizes = Sizes(config.channels(level), config.channels(level + 1), 3, 0, ratio, stride=2)
            layers.append(NormalisedConvolution(sizes))
        bottleneck = config.channels(config.downsamplings)
        layers += [ResidualBlock(bottleneck, config.global_ratio) for _ in range(config.blocks)]
        layers.append(nn.Identity())
        for level in reversed(range(config.downsamplings)):
            inputs, outputs = config.channels(level + 1), config.channels(level)
            layers += [
                nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(config.width, config.outputs, 7)]
        self.model = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Fill one batch.

        Args:
            x: FP32 [B, 4, H, W]: RGB in [0, 1] and the mask (1 in the hole). H and W are multiples of
                2 ** downsamplings, and at least twice that (reflection needs two rows).

        Returns:
            FP32 [B, outputs, H, W]: see `GeneratorConfig.output`.
        """
        first_block = 2 + self.config.downsamplings
        decoder = first_block + self.config.blocks + 1
        local: Tensor = x
        spread: Tensor | None = None
        for layer in self.model[1:first_block]:
            local, spread = layer(local, spread, None)
        basis = fourier_basis(local) if self.matrix_dft else None
        for layer in self.model[first_block : decoder - 1]:
            local, spread = layer(local, spread, basis)
        x = torch.cat([part for part in (local, spread) if part is not None], dim=1)
        for layer in self.model[decoder:]:
            x = layer(x)
        return torch.sigmoid(x) if self.config.output == "sigmoid" else RESIDUAL_SCALE * x
