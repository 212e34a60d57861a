"""Layers of a frozen network as autograd functions that save weights, sizes and packed bits alone.

Each gives the output and the gradient towards its input that PyTorch's own layer gives, up to rounding.
"""

# Autograd functions are called through an untyped `apply`.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from refiner.frozen.bits import pack, unpack
from refiner.frozen.spectra import inverse_rfft2
from refiner.memory import make_room

_THIN = 32


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
        make_room(x.nbytes)
        x = x.to(weight.dtype)
        if shape.transposed:
            return functional.conv_transpose2d(
                x, weight, bias, shape.stride, shape.padding, shape.output_padding, shape.groups, shape.dilation
            )
        if _is_thin(x, weight, shape):
            return _thin_conv(x, weight, bias, shape.padding)
        return functional.conv2d(x, weight, bias, shape.stride, shape.padding, shape.dilation, shape.groups)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        shape: ConvShape = ctx.shape
        make_room(grad.nbytes)
        grad = grad.to(weight.dtype)
        if shape.transposed:
            back = functional.conv2d(grad, weight, None, shape.stride, shape.padding, shape.dilation, shape.groups)
        else:
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
            back = functional.conv_transpose2d(
                grad, weight, None, shape.stride, shape.padding, unreached, shape.groups, shape.dilation
            )
        return back.to(ctx.dtype), None, None, None


class FrozenGate(Function):
    """ReLU and its friends: pass what lies between two bounds, scale what does not. Saves one bit an element."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float, slope: float, inplace: bool) -> Tensor:
        if slope:
            out = functional.leaky_relu_(x, slope) if inplace else functional.leaky_relu(x, slope)
        elif high == float("inf"):
            out = x.relu_() if inplace else x.relu()
        else:
            out = x.clamp_(low, high) if inplace else x.clamp(low, high)
        if inplace:
            ctx.mark_dirty(x)
        # The output shows which side of a bound the input was on, as long as it is compared with that bound.
        passed = out > low if high == float("inf") else (out > low) & (out < high)
        ctx.channels_last = _is_channels_last(passed)
        ctx.save_for_backward(pack(passed.permute(0, 2, 3, 1) if ctx.channels_last else passed))
        ctx.size, ctx.slope = x.shape, slope
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (bits,) = ctx.saved_tensors
        make_room(grad.nbytes)
        passed = unpack(bits, ctx.size.numel())
        if ctx.channels_last:
            n, c, h, w = ctx.size
            passed = passed.view(n, h, w, c).permute(0, 3, 1, 2)
        else:
            passed = passed.view(ctx.size)
        # Not a product, for which PyTorch makes numbers of all the bools.
        back = torch.where(passed, grad, grad * ctx.slope if ctx.slope else 0)
        return back, None, None, None, None


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
        return functional.pad(x, list(widths), mode=mode)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        left, right, top, bottom = ctx.widths
        make_room(grad.nbytes)
        fold = partial(_fold, axis=3, before=left, after=right, mode=ctx.mode)
        height = grad.shape[2] - top - bottom
        back = fold(grad.narrow(2, top, height))
        _add_border(back, fold(grad.narrow(2, 0, top)), 2, 0, ctx.mode)
        _add_border(back, fold(grad.narrow(2, top + height, bottom)), 2, 1, ctx.mode)
        return back, None, None


def _fold(grad: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    """Gradient of what was padded along an axis: what lies in the border is added to where it came from."""
    length = grad.shape[axis] - before - after
    back = grad.narrow(axis, before, length).clone()
    _add_border(back, grad.narrow(axis, 0, before), axis, 0, mode)
    _add_border(back, grad.narrow(axis, before + length, after), axis, 1, mode)
    return back


def _add_border(back: Tensor, border: Tensor, axis: int, end: int, mode: str) -> None:
    width, last = border.shape[axis], back.shape[axis] - 1
    if width == 0:
        return
    if mode == "replicate":
        back.narrow(axis, last * end, 1).add_(border.sum(dim=axis, keepdim=True))
    else:
        back.narrow(axis, last - width if end else 1, width).add_(border.flip(axis))


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
        width = ctx.size[1]
        weights = grad.real.new_full((grad.shape[-1],), 0.5)
        weights[0] = 1
        if width % 2 == 0:
            weights[-1] = 1
        inverse = {"ortho": "ortho", "backward": "forward", "forward": "backward"}[ctx.norm]
        return inverse_rfft2(grad * weights, tuple(ctx.size), inverse), None


def _is_thin(x: Tensor, weight: Tensor, shape: ConvShape) -> bool:
    """Whether a convolution has so few output channels that a CPU's vectors, 16 wide, would be mostly empty."""
    channels, rows = weight.shape[0], weight.shape[2]
    plain = shape.stride == shape.dilation == (1, 1) and shape.groups == 1
    return x.device.type == "cpu" and plain and rows > 1 and channels * rows <= _THIN


def _thin_conv(x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, ...]) -> Tensor:
    """A convolution whose kernel rows are computed as output channels, then added up, each shifted by its row."""
    channels, _, rows, columns = weight.shape
    each_row = weight.permute(2, 0, 1, 3).reshape(rows * channels, -1, 1, columns)
    parts = functional.conv2d(x, each_row.contiguous(memory_format=torch.channels_last), None, 1, padding)
    height = parts.shape[2] - rows + 1
    out = parts[:, :channels, :height].clone()
    for row in range(1, rows):
        out += parts[:, row * channels : (row + 1) * channels, row : row + height]
    return out if bias is None else out + bias[:, None, None]


def _is_channels_last(x: Tensor) -> bool:
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()  # noqa: PLR2004
