"""LaMa's generator, cut in two where the paper on feature refinement cuts it.

References:
    LaMa: arXiv 2109.07161. Feature refinement, which names the cut: arXiv 2206.13644.

`front` is everything up to the last downsampling layer, `rear` the residual blocks and the decoder. The
layers stand in one sequence whose indices are those of the public checkpoints (`model.<i>...`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lama.ffc import FFCBlock, FFCResidualBlock

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class GeneratorConfig:
    """Sizes of a LaMa generator. The defaults are Big LaMa's: 51 M parameters."""

    ngf: int = 64  # channels at full resolution
    n_downsampling: int = 3  # stride-2 layers; the picture's sides must be multiples of 2 ** n
    n_blocks: int = 18  # residual blocks at the smallest resolution
    global_channels: int = 384  # of the ngf * 2 ** n_downsampling at that resolution, those in the global branch

    @property
    def channels(self) -> tuple[int, int]:
        """Local and global channels of the features between front and rear."""
        return self.ngf * 2**self.n_downsampling - self.global_channels, self.global_channels

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> GeneratorConfig:
        """Read the sizes off a checkpoint's tensors, named `model.<i>...`.

        Raises:
            KeyError: a tensor that every LaMa has is missing; the key is its name.
        """
        ngf = tensors["model.1.ffc.convl2l.weight"].shape[0]
        n_downsampling = 0
        while f"model.{n_downsampling + 2}.ffc.convl2l.weight" in tensors:
            n_downsampling += 1
        n_blocks = 0
        while f"model.{n_downsampling + 2 + n_blocks}.conv1.ffc.convl2l.weight" in tensors:
            n_blocks += 1
        split = tensors[f"model.{n_downsampling + 1}.ffc.convl2g.weight"]
        return cls(ngf, n_downsampling, n_blocks, global_channels=split.shape[0])


class LocalBranch(nn.Module):
    """Makes one tensor the local branch, beside an empty global one."""

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """(N,C,H,W) to itself and None."""
        return x, None


class ConcatBranches(nn.Module):
    """Joins the local and the global branch into one tensor."""

    def forward(self, branches: tuple[Tensor, Tensor]) -> Tensor:
        """Local (N,Cl,H,W) and global (N,Cg,H,W) to (N,Cl+Cg,H,W)."""
        return torch.cat(branches, dim=1)


class Generator(nn.Module):
    """LaMa's inpainting network."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        ngf, n_down = config.ngf, config.n_downsampling
        widths = [ngf * 2**i for i in range(n_down + 1)]

        # Shapes for Big LaMa; H x W are the padded picture's.
        layers: list[nn.Module] = [nn.ReflectionPad2d(3)]
        layers += [FFCBlock((4, 0), (ngf, 0), 7)]  # (N,64,H,W)
        for width in widths[:-2]:
            # to (N,128,H/2,W/2), then to (N,256,H/4,W/4)
            layers += [FFCBlock((width, 0), (2 * width, 0), 3, stride=2, padding=1)]
        layers += [FFCBlock((widths[-2], 0), config.channels, 3, stride=2, padding=1)]
        self.split = len(layers)  # features: local (N,128,H/8,W/8) and global (N,384,H/8,W/8)

        layers += [FFCResidualBlock(config.channels) for _ in range(config.n_blocks)]
        layers += [ConcatBranches()]  # (N,512,H/8,W/8)
        for width in widths[-2::-1]:
            layers += [
                nn.ConvTranspose2d(2 * width, width, 3, stride=2, padding=1, output_padding=1),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]  # (N,256,H/4,W/4), (N,128,H/2,W/2), (N,64,H,W)
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(ngf, 3, 7), nn.Sigmoid()]  # (N,3,H,W)
        self.model = nn.Sequential(*layers)

    def front(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Masked picture and mask (N,4,H,W) to features: local and global, at 1/8 of the side."""
        branches: tuple[Tensor, Tensor | None] = (self.model[0](x), None)
        for layer in list(self.model)[1 : self.split]:
            branches = layer(branches)
        local, glob = branches
        assert glob is not None  # noqa: S101  the last downsampling layer has a global branch
        return local, glob

    def rear(self, features: tuple[Tensor, Tensor]) -> Tensor:
        """Features to the predicted picture (N,3,H,W) in [0,1]."""
        prediction: Tensor = self.model[self.split :](features)
        return prediction

    def forward(self, x: Tensor) -> Tensor:
        """Masked picture and mask (N,4,H,W) to the predicted picture (N,3,H,W) in [0,1]."""
        return self.rear(self.front(x))
