"""The frozen generator, computed faster: the same function with BatchNorms folded and convolutions merged.

Every BatchNorm becomes part of the convolution before it, the two convolutions that read the local branch become one,
and tensors lie channels-last, so that a spectrum's interleaved real and imaginary parts are channels without a copy.
It is plain PyTorch; inside `refiner.frozen.FrozenGradients` it saves only packed bits for the backward pass.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from refiner.frozen import current_strip_height, in_strips, relu_of_sum_, stacked_irfft2, stacked_rfft2

if TYPE_CHECKING:
    from collections.abc import Callable

    from lama.ffc import FFCBlock, FFCResidualBlock
    from lama.generator import Generator

# Rows at 1/8 of the picture's side that a strip needs beyond its own. The front's receptive field reaches 10 picture
# rows: 3 of the 7x7, and 1, 2, 4 of the strided 3x3. The decoder's reaches 17: 8, 4, 2 and 3.
_FRONT_HALO = 2
_TAIL_HALO = 3


class FusedGenerator(nn.Module):
    """A generator for inference alone, with weights computed from a trained generator.

    Its layers before and after the residual blocks run on strips of `refiner.frozen.current_strip_height()` rows.

    Args:
        generator: the trained network, in eval mode.
        split_block: how many residual blocks belong to the front.
    """

    def __init__(self, generator: Generator, split_block: int = 0) -> None:
        super().__init__()
        self.split_block = split_block
        config = generator.config
        layers: list[Any] = list(generator.model)
        self.fine = 2**config.n_downsampling
        self.stem = Conv.of_block(layers[1])
        self.down = nn.ModuleList(Conv.of_block(layer) for layer in layers[2 : generator.split])
        first_up = generator.split + config.n_blocks + 1
        self.blocks = nn.ModuleList(FusedBlock(layer) for layer in layers[generator.split : first_up - 1])
        self.up = nn.ModuleList(Upsampling(layers[i], layers[i + 1]) for i in range(first_up, len(layers) - 3, 3))
        self.head = Conv(layers[-2].weight.double(), layers[-2].bias.double())
        self.local_channels = config.channels[0]

    @property
    def stages(self) -> list[nn.Module]:
        """The rear's parts in the order they run: each block, and the decoder."""
        return [*self.blocks[self.split_block :], nn.ModuleList([*self.up, self.head])]

    def front(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Masked picture and mask (N,4,H,W) to local and global features at 1/8 of the side."""
        features = self._in_strips(self._front, x, _FRONT_HALO, Fraction(1, self.fine))
        local, glob = features[:, : self.local_channels], features[:, self.local_channels :]
        for block in self.blocks[: self.split_block]:
            local, glob = block(local, glob)
        return local, glob

    def rear(self, features: tuple[Tensor, Tensor]) -> Tensor:
        """Features to the predicted picture (N,3,H,W) in [0,1]."""
        local, glob = features
        for block in self.blocks[self.split_block :]:
            local, glob = block(local, glob)
        joined = torch.cat([local, glob], dim=1)
        del local, glob
        return self._in_strips(self._tail, joined, _TAIL_HALO, Fraction(self.fine))

    def _front(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(_reflect(_channels_last(x), 3)), inplace=True)
        for conv in self.down:
            x = functional.relu(conv(_reflect(x, 1), stride=2), inplace=True)
        return x

    def _tail(self, x: Tensor) -> Tensor:
        for up in self.up:
            x = functional.relu(up(x), inplace=True)
        return torch.sigmoid(self.head(_reflect(x, 3)))

    def _in_strips(self, run: Callable[[Tensor], Tensor], x: Tensor, halo: int, scale: Fraction) -> Tensor:
        height = current_strip_height()
        if height is None:
            return run(x)
        return in_strips(run, x, rows=max(height // self.fine, 1), halo=halo, scale=scale)


class FusedFFC(nn.Module):
    """Fast Fourier convolution, BatchNorm and ReLU on both branches."""

    def __init__(self, block: FFCBlock) -> None:
        super().__init__()
        ffc, bn_l, bn_g = block.ffc, block.bn_l, block.bn_g
        local, glob = _affine(bn_l), _affine(bn_g)
        spectral: Any = ffc.convg2g
        self.channels = [ffc.convl2l.out_channels, ffc.convl2g.out_channels]  # type: ignore[union-attr]
        self.from_local = Conv(
            torch.cat([_scaled(ffc.convl2l, local[0]), _scaled(ffc.convl2g, glob[0])]),
            torch.cat([local[1], glob[1]]),
        )
        self.to_local = Conv(_scaled(ffc.convg2l, local[0]))
        self.reduce = Conv.of(spectral.conv1[0], spectral.conv1[1])
        self.mix = Conv.of(spectral.fu.conv_layer, spectral.fu.bn)
        self.expand = Conv(_scaled(spectral.conv2, glob[0]))

    def forward(self, local: Tensor, glob: Tensor) -> tuple[Tensor, Tensor]:
        """Local (N,Cl,H,W) and global (N,Cg,H,W); the same out."""
        local_to_local, local_to_global = self.from_local(_reflect(local, 1)).split(self.channels, dim=1)
        out_local = relu_of_sum_(self.to_local(_reflect(glob, 1)), local_to_local)
        reduced = functional.relu(self.reduce(glob), inplace=True)  # (N,Cg/2,H,W)
        out_global = self.expand(reduced + self._fourier(reduced))
        return out_local, relu_of_sum_(out_global, local_to_global)

    def _fourier(self, x: Tensor) -> Tensor:
        """Mix channels in the spectrum: (N,C,H,W) to (N,C,H,W)."""
        mixed = functional.relu(self.mix(stacked_rfft2(x)), inplace=True)  # (N,2C,H,W//2+1): re0 im0 re1 im1 ...
        return stacked_irfft2(mixed, x.shape[-1])


class FusedBlock(nn.Module):
    """Two fused FFCs, added to their input."""

    def __init__(self, block: FFCResidualBlock) -> None:
        super().__init__()
        self.conv1 = FusedFFC(block.conv1)
        self.conv2 = FusedFFC(block.conv2)

    def forward(self, local: Tensor, glob: Tensor) -> tuple[Tensor, Tensor]:
        """Local (N,Cl,H,W) and global (N,Cg,H,W); the same out."""
        new_local, new_global = self.conv2(*self.conv1(local, glob))
        return local + new_local, glob + new_global


class Conv(nn.Module):
    """Weight and bias of a convolution, channels-last; calling it convolves without padding."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(_channels_last(weight), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    @classmethod
    def of(cls, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Conv:
        """A convolution and the BatchNorm after it, in one."""
        scale, shift = _affine(norm)
        return cls(_scaled(conv, scale), shift)

    @classmethod
    def of_block(cls, block: FFCBlock) -> Conv:
        """An FFC block that reads the local branch alone, with both its outputs in one tensor."""
        parts = [
            Conv.of(conv, norm)
            for conv, norm in ((block.ffc.convl2l, block.bn_l), (block.ffc.convl2g, block.bn_g))
            if conv is not None and norm is not None
        ]
        return cls(torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts]))  # type: ignore[misc]

    def forward(self, x: Tensor, stride: int = 1) -> Tensor:
        """(N,C_in,H,W) to (N,C_out,H',W')."""
        return functional.conv2d(x, self.weight, self.bias, stride=stride)


class Upsampling(nn.Module):
    """A transposed convolution to twice the size and the BatchNorm after it, in one."""

    def __init__(self, conv: nn.ConvTranspose2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        scale, shift = _affine(norm)
        bias = conv.bias.double() if conv.bias is not None else 0
        self.weight = nn.Parameter(
            _channels_last(conv.weight.double() * scale[None, :, None, None]), requires_grad=False
        )
        self.bias = nn.Parameter(bias * scale + shift, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N,C_in,H,W) to (N,C_out,2H,2W)."""
        return functional.conv_transpose2d(x, self.weight, self.bias, stride=2, padding=1, output_padding=1)


def _affine(norm: nn.BatchNorm2d | None) -> tuple[Tensor, Tensor]:
    """The scale and shift that a BatchNorm in eval mode applies, in float64."""
    assert norm is not None and norm.running_mean is not None and norm.running_var is not None  # noqa: S101, PT018
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def _scaled(conv: nn.Conv2d | None, scale: Tensor) -> Tensor:
    assert conv is not None  # noqa: S101  every FFC of the residual blocks has all four paths
    return conv.weight.double() * scale[:, None, None, None]


def _reflect(x: Tensor, width: int) -> Tensor:
    return functional.pad(x, (width, width, width, width), mode="reflect")


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
