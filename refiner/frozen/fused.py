"""Convolutions and what is elementwise around them, each in one operation: gates, spectra.

What is here runs on every device, and is the reference for the kernels of `refiner.frozen.gpu`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from refiner.frozen.bits import pack, unpack
from refiner.frozen.emulation import is_emulated
from refiner.frozen.layout import in_memory, is_channels_last
from refiner.frozen.operators import on_meta, operator

if TYPE_CHECKING:
    from collections.abc import Sequence

INF = float("inf")
_THIN = 32
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


@operator("gate_(Tensor(a!) x, Tensor? other, float low, float high, float slope) -> Tensor", kernel=True)
def gate_(x: Tensor, other: Tensor | None, low: float, high: float, slope: float) -> Tensor:
    """Add another tensor to x and pass what lies between two bounds, in place; scale what does not.

    Returns:
        One bit for each element, in the order in which x lies in memory: whether it passed. See `refiner.frozen.bits`.
    """
    if other is not None:
        x.add_(other)
    if slope:
        functional.leaky_relu_(x, slope)
    elif high == INF and low == 0:
        x.relu_()
    else:
        x.clamp_(low, high)
    # The output shows which side of a bound the input was on, as long as it is compared with that bound.
    if high < INF:
        passed = (x > low) & (x < high)
    elif slope or low:
        passed = x > low
    else:
        passed = x.bool()  # which a CPU does several times faster
    return pack(in_memory(passed))


@on_meta("gate_")
def _gate_on_meta(x: Tensor, other: Tensor | None, low: float, high: float, slope: float) -> Tensor:  # noqa: ARG001
    passed = torch.empty(x.numel(), dtype=torch.bool, device="meta")
    return torch.empty(-(-passed.numel() // 8), dtype=torch.uint8, device="meta")


@operator("ungate(Tensor grad, Tensor bits, float slope) -> Tensor", kernel=True)
def ungate(grad: Tensor, bits: Tensor, slope: float) -> Tensor:
    """The gradient before a gate: that after it where it passed, scaled elsewhere.

    Args:
        grad: (N,C,H,W), which lies in memory as the gate's output does.
        bits: what `gate_` gave.
        slope: of the gate.
    """
    flat = in_memory(grad)
    passed = unpack(bits, grad.numel()).view(flat.shape)
    if slope:
        back = torch.where(passed, flat, flat * slope)
    else:
        # No choice, which on a CPU takes twenty times as long, but all bits of a number or none.
        whole = _INTEGERS[flat.itemsize]
        back = passed.view(torch.int8).neg_().to(whole).bitwise_and_(flat.view(whole)).view(flat.dtype)
    return back.permute(0, 3, 1, 2) if is_channels_last(grad) else back


@on_meta("ungate")
def _ungate_on_meta(grad: Tensor, bits: Tensor, slope: float) -> Tensor:  # noqa: ARG001
    passed = torch.empty(grad.numel(), dtype=torch.bool, device="meta")
    back = torch.empty_like(grad)
    del passed  # which is there beside it
    return back


@operator(
    "convolve(Tensor x, Tensor weight, Tensor? bias, int[] stride, int[] padding, int[] dilation, int groups, "
    "bool transposed, int[] output_padding, ScalarType? dtype) -> Tensor"
)
def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    transposed: bool,
    output_padding: Sequence[int],
    dtype: torch.dtype | None,
) -> Tensor:
    """A convolution in its weight's precision, or a transposed one, given back in another where `dtype` says.

    Args:
        x: (N,C,H,W), of any precision.
        weight: as of `torch.nn.functional.conv2d` or `conv_transpose2d`.
        bias: likewise.
        stride: and the others: likewise.
        padding: of zeros.
        dilation: of the kernel.
        groups: of channels.
        transposed: which of the two.
        output_padding: of a transposed one.
        dtype: of the output; that of the weight where None.
    """
    precision = weight.dtype
    x = x.to(precision)
    if is_emulated(precision, x.device):
        x, weight, bias = x.float(), weight.float(), None if bias is None else bias.float()
    if transposed:
        out = functional.conv_transpose2d(x, weight, bias, stride, padding, output_padding, groups, dilation)
    elif _is_thin(x, weight, stride, dilation, groups):
        out = _thin_conv(x, weight, bias, padding)
    else:
        out = functional.conv2d(x, weight, bias, stride, padding, dilation, groups)
    del x, weight  # which may be casts
    out = out.to(precision)
    return out if dtype is None else out.to(dtype)


@on_meta("convolve")
def _convolve_on_meta(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,  # noqa: ARG001
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    transposed: bool,
    output_padding: Sequence[int],
    dtype: torch.dtype | None,
) -> Tensor:
    kernel = weight.shape[2:]
    if transposed:
        channels = weight.shape[1] * groups
        sides = [
            (x.shape[2 + i] - 1) * stride[i] - 2 * padding[i] + dilation[i] * (kernel[i] - 1) + output_padding[i] + 1
            for i in (0, 1)
        ]
    else:
        channels = weight.shape[0]
        sides = [(x.shape[2 + i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1)]
    last = is_channels_last(x) or is_channels_last(weight)
    layout = torch.channels_last if last else torch.contiguous_format
    emulated = is_emulated(weight.dtype, x.device)
    computed = torch.float32 if emulated else weight.dtype
    casts = [
        torch.empty(part.shape, dtype=computed, device="meta")
        for part in (x, weight)
        if emulated or part.dtype != computed
    ]
    made = torch.empty((x.shape[0], channels, *sides), dtype=computed, device="meta", memory_format=layout)
    if not last:
        casts.append(torch.empty(made.shape, dtype=computed, device="meta"))  # oneDNN's own layout of it
    casts.clear()  # which are there beside it
    for rounded in (weight.dtype, dtype):
        made = made if rounded in (None, made.dtype) else torch.empty_like(made, dtype=rounded)
    return made


def _is_thin(x: Tensor, weight: Tensor, stride: Sequence[int], dilation: Sequence[int], groups: int) -> bool:
    """Whether a convolution has so few output channels that a CPU's vectors, 16 wide, would be mostly empty."""
    channels, rows = weight.shape[0], weight.shape[2]
    plain = tuple(stride) == tuple(dilation) == (1, 1) and groups == 1
    return x.device.type == "cpu" and plain and rows > 1 and channels * rows <= _THIN


def _thin_conv(x: Tensor, weight: Tensor, bias: Tensor | None, padding: Sequence[int]) -> Tensor:
    """A convolution whose kernel rows are computed as output channels, then added up, each shifted by its row."""
    channels, _, rows, columns = weight.shape
    each_row = weight.permute(2, 0, 1, 3).reshape(rows * channels, -1, 1, columns)
    parts = functional.conv2d(x, each_row.contiguous(memory_format=torch.channels_last), None, 1, tuple(padding))
    height = parts.shape[2] - rows + 1
    out = parts[:, :channels, :height].clone()
    for row in range(1, rows):
        out += parts[:, row * channels : (row + 1) * channels, row : row + height]
    return out if bias is None else out + bias[:, None, None]


@operator("spectrum(Tensor x, bool adjoint) -> Tensor", kernel=True)
def spectrum(x: Tensor, adjoint: bool) -> Tensor:
    """The real 2-D FFT (`norm="ortho"`) with its real and imaginary parts as channels; or the adjoint of `picture`.

    The adjoint is the same but for a factor of 2 on all columns but the first and, at even widths, the last: an inverse
    transform adds each of these twice, once for the half of the spectrum that is left out.

    Args:
        x: (N,C,H,W), floating point; in 16 bits it is computed in float32.
        adjoint: whether to give the adjoint of `picture`.

    Returns:
        (N,2C,H,W//2+1), channels-last, the parts interleaved: re0, im0, re1, im1, ...; at least float32.
    """
    wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    half = torch.fft.rfft2(wide, norm="ortho")
    stacked = torch.view_as_real(half.permute(0, 2, 3, 1).contiguous()).flatten(3)  # (N,H,W//2+1,2C)
    if adjoint:
        stacked[:, :, 1 : (x.shape[3] + 1) // 2].mul_(2)
    return stacked.permute(0, 3, 1, 2)


@on_meta("spectrum")
def _spectrum_on_meta(x: Tensor, adjoint: bool) -> Tensor:  # noqa: ARG001
    return _spectra_on_meta(x, x.shape[3], (x.shape[0], 2 * x.shape[1], x.shape[2], x.shape[3] // 2 + 1))


@operator("picture(Tensor stacked, int width, bool adjoint) -> Tensor", kernel=True)
def picture(stacked: Tensor, width: int, adjoint: bool) -> Tensor:
    """The inverse of `spectrum`, the same on every device for spectra that no real picture has; or its adjoint.

    See `refiner.frozen.inverse_rfft2`. The adjoint of `spectrum` is the same but for a factor of 1/2 on all columns but
    the first and, at even widths, the last.

    Args:
        stacked: (N,2C,H,W//2+1), see `spectrum`.
        width: W.
        adjoint: whether to give the adjoint of `spectrum`.

    Returns:
        (N,C,H,W), channels-last, of the input's precision, at least float32.
    """
    wide = stacked.float() if stacked.dtype in (torch.bfloat16, torch.float16) else stacked
    count, channels, height, half = wide.shape
    parts = wide.permute(0, 2, 3, 1).reshape(count, height, half, channels // 2, 2).contiguous()  # (N,H,W//2+1,C,2)
    rows = torch.fft.ifft(torch.view_as_complex(parts).permute(0, 3, 1, 2), dim=-2, norm="ortho")
    ends = torch.view_as_real(rows)
    if adjoint:
        ends[..., 1 : (width + 1) // 2, :].mul_(0.5)
    ends[..., 0, 1].zero_()
    if width % 2 == 0:
        ends[..., -1, 1].zero_()
    made: Tensor = torch.fft.irfft(rows, n=width, dim=-1, norm="ortho")
    return made.contiguous(memory_format=torch.channels_last)


@on_meta("picture")
def _picture_on_meta(stacked: Tensor, width: int, adjoint: bool) -> Tensor:  # noqa: ARG001
    return _spectra_on_meta(stacked, width, (stacked.shape[0], stacked.shape[1] // 2, stacked.shape[2], width))


def _spectra_on_meta(x: Tensor, width: int, shape: tuple[int, int, int, int]) -> Tensor:
    """The transform and a copy of it, which lie beside each other."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    channels = shape[1] if shape[3] == width // 2 + 1 else 2 * shape[1]
    transformed = torch.empty(shape[0], shape[2], width // 2 + 1, channels, dtype=dtype, device="meta")
    made = torch.empty(shape, dtype=dtype, device="meta", memory_format=torch.channels_last)
    del transformed
    return made
