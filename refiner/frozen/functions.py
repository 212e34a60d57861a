"""Layers of a frozen network as autograd functions that save weights, sizes and packed bits alone.

Each gives the output and the gradient towards its input that PyTorch's own layer gives, up to rounding.
"""

# Autograd functions are called through an untyped `apply`.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from refiner.frozen.borders import pad, unpad
from refiner.frozen.fused import convolve, gate_, picture, spectrum, ungate
from refiner.frozen.layout import is_channels_last
from refiner.frozen.spectra import inverse_rfft2
from refiner.interruption import breathe
from refiner.memory import make_room


@dataclass(frozen=True)
class ConvShape:
    """Stride, padding, dilation, groups of a convolution, and of a transposed one its output padding."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    transposed: bool = False
    output_padding: tuple[int, ...] = (0, 0)


class FrozenConv(Function):
    """A convolution or transposed convolution; each is the other's gradient. Saves the weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, shape: ConvShape) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.size, ctx.dtype = shape, x.shape[2:], x.dtype
        _pause(x)
        return convolve(
            x, weight, bias, shape.stride, shape.padding, shape.dilation, shape.groups, shape.transposed,
            shape.output_padding, None,
        )  # fmt: skip

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        shape: ConvShape = ctx.shape
        _pause(grad)
        unreached = (0, 0)
        if not shape.transposed:
            # Rows that a strided convolution did not reach get no gradient: they are the output padding.
            unreached = tuple(
                have - ((out - 1) * s - 2 * p + d * (k - 1) + 1)
                for have, out, s, p, d, k in zip(
                    ctx.size,
                    grad.shape[2:],
                    shape.stride,
                    shape.padding,
                    shape.dilation,
                    weight.shape[2:],
                    strict=True,
                )
            )
        back = convolve(
            grad, weight, None, shape.stride, shape.padding, shape.dilation, shape.groups, not shape.transposed,
            unreached, ctx.dtype,
        )  # fmt: skip
        return back, None, None, None


class FrozenGate(Function):
    """ReLU and its friends, perhaps of a sum: pass what lies between two bounds, scale what does not.

    Works in place where it may, and saves one bit an element.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, other: Tensor | None, low: float, high: float, slope: float, inplace: bool
    ) -> Tensor:
        if inplace:
            ctx.mark_dirty(x)
        else:
            x = x.clone()
        ctx.save_for_backward(gate_(x, other, low, high, slope))
        ctx.channels_last, ctx.slope, ctx.both = is_channels_last(x), slope, other is not None
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (bits,) = ctx.saved_tensors
        make_room(grad.nbytes)
        if ctx.channels_last != is_channels_last(grad):
            memory_format = torch.channels_last if ctx.channels_last else torch.contiguous_format
            grad = grad.contiguous(memory_format=memory_format)
        back = ungate(grad, bits, ctx.slope)
        return back, back if ctx.both else None, None, None, None, None


class FrozenAffine(Function):
    """Scale and shift each channel, as BatchNorm does in eval mode. Saves the scale."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        ctx.save_for_backward(scale)
        return torch.addcmul(shift, x, scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = ctx.saved_tensors
        return grad * scale, None, None


class FrozenPad(Function):
    """Padding by reflection or replication. Saves nothing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, widths: tuple[int, ...], mode: str) -> Tensor:
        ctx.widths, ctx.mode = widths, mode
        make_room(x.nbytes)
        return pad(x, widths, mode)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        make_room(grad.nbytes)
        return unpad(grad, ctx.widths, ctx.mode), None, None


class FrozenRfft2(Function):
    """The real 2-D FFT over the last two axes. Saves nothing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: str) -> Tensor:
        ctx.size, ctx.norm = x.shape[-2:], norm
        spectrum: Tensor = torch.fft.rfft2(x, norm=norm)
        return spectrum

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # The adjoint adds up half the spectrum; the inverse transform adds every column but the first, and at even
        # widths the last, twice.
        weighted = grad.clone()
        weighted[..., 1 : (ctx.size[1] + 1) // 2].mul_(0.5)
        inverse = {"ortho": "ortho", "backward": "forward", "forward": "backward"}[ctx.norm]
        return inverse_rfft2(weighted, tuple(ctx.size), inverse), None


class FrozenSpectrum(Function):
    """The real 2-D FFT with its parts as channels, see `refiner.frozen.fused.spectrum`. Saves nothing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.width, ctx.dtype = x.shape[3], x.dtype
        return spectrum(x, adjoint=False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return picture(grad, ctx.width, adjoint=True).to(ctx.dtype)


class FrozenPicture(Function):
    """The inverse of `FrozenSpectrum`. Saves nothing."""

    @staticmethod
    def forward(ctx: Any, stacked: Tensor, width: int) -> Tensor:
        ctx.dtype = stacked.dtype
        return picture(stacked, width, adjoint=False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return spectrum(grad, adjoint=True).to(ctx.dtype), None


def _pause(x: Tensor) -> None:
    """Before a convolution, the longest of all layers; on a GPU, which only notes them here, nobody waits for one."""
    make_room(x.nbytes)
    if x.device.type == "cpu":
        breathe()


def relu_of_sum_(x: Tensor, other: Tensor) -> Tensor:
    """The ReLU of a sum, in place of x; its gradient saves one bit an element.

    Args:
        x: (N,C,H,W), no leaf.
        other: of its shape.
    """
    if torch.is_grad_enabled() and (x.requires_grad or other.requires_grad):
        out: Tensor = FrozenGate.apply(x, other, 0.0, float("inf"), 0.0, True)
        return out
    return x.add_(other).relu_()


def stacked_rfft2(x: Tensor) -> Tensor:
    """The real 2-D FFT (`norm="ortho"`) with its parts as channels; its gradient saves nothing.

    Args:
        x: (N,C,H,W), floating point; in 16 bits it is computed in float32.

    Returns:
        (N,2C,H,W//2+1), channels-last, the parts interleaved: re0, im0, re1, im1, ...; at least float32.
    """
    out: Tensor = FrozenSpectrum.apply(x)
    return out


def stacked_irfft2(stacked: Tensor, width: int) -> Tensor:
    """The inverse of `stacked_rfft2`, as `inverse_rfft2` is of `torch.fft.rfft2`; its gradient saves nothing.

    Args:
        stacked: (N,2C,H,width//2+1).
        width: of the picture.

    Returns:
        (N,C,H,width), channels-last, at least float32.
    """
    out: Tensor = FrozenPicture.apply(stacked, width)
    return out
