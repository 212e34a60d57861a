"""LaMa's ablations without Fourier convolutions: regular and dilated residual networks.

References:
    LaMa: arXiv 2109.07161, section 3.2. The shape is pix2pixHD's "global generator", arXiv 1711.11585.

The layers stand in one sequence whose indices are those of the public checkpoints (`model.<i>...`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class RegularConfig:
    """Sizes of a regular generator. The defaults are LaMa-Regular's."""

    ngf: int = 64  # channels at full resolution
    n_downsampling: int = 3  # stride-2 layers; the picture's sides must be multiples of 2 ** n
    n_blocks: int = 9  # residual blocks at the smallest resolution
    dilations: int = 0  # parallel convolutions with dilations 1, 2, 4, ...; 0 for one convolution without

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> RegularConfig:
        """Read the sizes off a checkpoint's tensors, named `model.<i>...`.

        Raises:
            KeyError: a tensor that every such network has is missing; the key is its name.
        """
        ngf = tensors["model.1.weight"].shape[0]
        n_downsampling = 0
        while f"model.{3 * n_downsampling + 4}.weight" in tensors:
            n_downsampling += 1
        first = 3 * n_downsampling + 4
        n_blocks = 0
        while any(name.startswith(f"model.{first + n_blocks}.conv_block.") for name in tensors):
            n_blocks += 1
        dilations = 0
        while f"model.{first}.conv_block.0.convs.{dilations}.weight" in tensors:
            dilations += 1
        return cls(ngf, n_downsampling, n_blocks, dilations)


class DilatedConvs(nn.Module):
    """The sum of convolutions with dilations 1, 2, 4, ..., each of its own share of the channels."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(channels // count, channels, 3, padding=2**i, dilation=2**i, padding_mode="reflect")
            for i in range(count)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N,C,H,W) to (N,C,H,W)."""
        parts = x.chunk(len(self.convs), dim=1)
        outputs: list[Tensor] = [conv(part) for conv, part in zip(self.convs, parts, strict=True)]
        return sum(outputs[1:], start=outputs[0])


class ResidualBlock(nn.Module):
    """Two convolutions, added to their input."""

    def __init__(self, channels: int, dilations: int) -> None:
        super().__init__()

        def conv() -> list[nn.Module]:
            if dilations:
                return [DilatedConvs(channels, dilations)]
            return [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3)]

        def norm() -> nn.Module:
            return nn.BatchNorm2d(channels)

        self.conv_block = nn.Sequential(*conv(), norm(), nn.ReLU(), *conv(), norm())

    def forward(self, x: Tensor) -> Tensor:
        """(N,C,H,W) to (N,C,H,W)."""
        return cast("Tensor", x + self.conv_block(x))


class RegularGenerator(nn.Module):
    """The network; `split` is where feature refinement cuts it: before the residual blocks."""

    def __init__(self, config: RegularConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.ngf * 2**i for i in range(config.n_downsampling + 1)]
        layers: list[nn.Module] = [nn.ReflectionPad2d(3)]
        layers += [nn.Conv2d(4, config.ngf, 7), nn.BatchNorm2d(config.ngf), nn.ReLU(inplace=True)]  # (N,64,H,W)
        for width in widths[:-1]:
            layers += [
                nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
                nn.BatchNorm2d(2 * width),
                nn.ReLU(inplace=True),
            ]
        self.split = len(layers)  # features: (N,512,H/8,W/8)
        layers += [ResidualBlock(widths[-1], config.dilations) for _ in range(config.n_blocks)]
        for width in widths[-2::-1]:
            layers += [
                nn.ConvTranspose2d(2 * width, width, 3, stride=2, padding=1, output_padding=1),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(config.ngf, 3, 7), nn.Sigmoid()]  # (N,3,H,W)
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Masked picture and mask (N,4,H,W) to the predicted picture (N,3,H,W) in [0,1]."""
        return cast("Tensor", self.model(x))
