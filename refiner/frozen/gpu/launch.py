"""The operators as launches of kernels. Each gives NotImplemented for tensors that its kernel is not made for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from triton import cdiv, next_power_of_2
from triton import language as tl

from refiner.frozen.gpu import kernels
from refiner.frozen.layout import is_channels_last, layout_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDE = {torch.float16: tl.float32, torch.bfloat16: tl.float32, torch.float32: tl.float32, torch.float64: tl.float64}
_MOST = 2**31 - 2**16  # elements whose places 32 bits can count, with those of a block beyond the end
_GRID = 65535  # programs along the second and third axis
_BYTES = 256  # of bits that a program packs
_TILE = 32  # places and channels that a program turns around
_TERMS = 64  # values that replication may have made of one
_AS_WRITTEN: dict[str, Any] = {"enable_fp_fusion": False}  # each number rounded where PyTorch's operations round it


def gate_(x: Tensor, other: Tensor | None, low: float, high: float, slope: float) -> Any:
    """See `refiner.frozen.fused.gate_`."""
    inner, stride = (x.numel(), x.numel()) if other is None else _rows(x, other)
    if not (_is_dense(x) and _fits(x, other) and inner):
        return NotImplemented
    bits = torch.empty(cdiv(x.numel(), 8), dtype=torch.uint8, device=x.device)
    bounded = high != float("inf")
    kernels.gate[(cdiv(bits.numel(), _BYTES),)](
        x, x if other is None else other, bits, x.numel(), inner, stride, low=low, high=high if bounded else 0.0,
        slope=slope, bounded=bounded, summed=other is not None, wide=_wide(x, other), block=_BYTES, **_AS_WRITTEN,
    )  # fmt: skip
    return bits


def ungate(grad: Tensor, bits: Tensor, slope: float) -> Any:
    """See `refiner.frozen.fused.ungate`."""
    if not _fits(grad):
        return NotImplemented
    grad = grad if _is_dense(grad) else grad.contiguous()
    back = torch.empty_like(grad)
    kernels.ungate[(cdiv(bits.numel(), _BYTES),)](
        grad, bits, back, grad.numel(), slope=slope, wide=_wide(grad), block=_BYTES, **_AS_WRITTEN
    )
    return back


def pad(x: Tensor, widths: Sequence[int], mode: str) -> Any:
    """See `refiner.frozen.borders.pad`."""
    left, right, top, bottom = widths
    height, width = x.shape[2:]
    # Wrong widths are left to PyTorch, which says so.
    reflects, widest = mode == "reflect", (max(left, right) - width, max(top, bottom) - height)
    size = (*x.shape[:2], height + top + bottom, width + left + right)
    if not _fits(x) or (reflects and max(widest) >= 0):
        return NotImplemented
    x = x.contiguous(memory_format=layout_of(x))
    made = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=layout_of(x))
    grid, inner, block = _by_rows(made, layout_of(x))
    if grid[1] > _GRID or not _fits(made):
        return NotImplemented
    kernels.pad[grid](
        x, made, height, width, inner, left, top, right, bottom, reflects=reflects, block=block, **_AS_WRITTEN
    )
    return made


def unpad(grad: Tensor, widths: Sequence[int], mode: str) -> Any:
    """See `refiner.frozen.borders.unpad`."""
    left, right, top, bottom = widths
    height, width = grad.shape[2] - top - bottom, grad.shape[3] - left - right
    reflects = mode == "reflect"
    rows, columns = (3, 3) if reflects else (1 + top + bottom, 1 + left + right)
    if not _fits(grad) or rows * columns > _TERMS:
        return NotImplemented
    grad = grad.contiguous(memory_format=layout_of(grad))
    back = torch.empty(
        (*grad.shape[:2], height, width), dtype=grad.dtype, device=grad.device, memory_format=layout_of(grad)
    )
    grid, inner, block = _by_rows(back, layout_of(grad))
    if grid[1] > _GRID:
        return NotImplemented
    kernels.unpad[grid](
        grad, back, height, width, inner, left, top, right, bottom, reflects=reflects, wide=_wide(grad),
        rows=rows, columns=columns, above=0 if reflects else top, before=0 if reflects else left, block=block,
        **_AS_WRITTEN,
    )  # fmt: skip
    return back


def spectrum(x: Tensor, adjoint: bool) -> Any:
    """See `refiner.frozen.fused.spectrum`."""
    count, channels, height, width = x.shape
    half = width // 2 + 1
    if not _fits(x, room=2) or count > _GRID or cdiv(channels, _TILE) > _GRID:
        return NotImplemented
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    # Its own scaling would be another pass over all of it; the kernel does that too.
    pairs = torch.view_as_real(torch.fft.rfft2(x, norm="backward").contiguous())
    stacked = torch.empty((count, height, half, 2 * channels), dtype=x.dtype, device=x.device)
    kernels.stack[_by_tiles(height * half, channels, count)](
        pairs, stacked, channels, height, width, inward=2.0 if adjoint else 1.0, wide=_wide(x),
        places=_TILE, planes=_TILE, **_AS_WRITTEN,
    )  # fmt: skip
    return stacked.permute(0, 3, 1, 2)


def picture(stacked: Tensor, width: int, adjoint: bool) -> Any:
    """See `refiner.frozen.fused.picture`."""
    count, parts, height, half = stacked.shape
    channels = parts // 2
    if not _fits(stacked, room=2) or count > _GRID or cdiv(channels, _TILE) > _GRID:
        return NotImplemented
    stacked = stacked.permute(0, 2, 3, 1).contiguous()
    dtype = torch.float64 if stacked.dtype == torch.float64 else torch.float32
    pairs = torch.empty((count, channels, height, half, 2), dtype=dtype, device=stacked.device)
    kernels.unstack[_by_tiles(height * half, channels, count)](
        stacked, pairs, channels, height, width, inward=0.5 if adjoint else 1.0, wide=_wide(pairs),
        places=_TILE, planes=_TILE, **_AS_WRITTEN,
    )  # fmt: skip
    made = torch.fft.irfft2(torch.view_as_complex(pairs), s=(height, width), norm="forward").contiguous()
    back = torch.empty_like(made, memory_format=torch.channels_last)
    kernels.last[_by_tiles(height * width, channels, count)](
        made, back, channels, height * width, places=_TILE, planes=_TILE, **_AS_WRITTEN
    )
    return back


def _fits(*tensors: Tensor | None, room: int = 1) -> bool:
    """Whether places in all of them, and in what is so many times as large, are counted by 32 bits."""
    return all(x is None or (x.dtype in _WIDE and 0 < room * x.numel() < _MOST) for x in tensors)


def _wide(*tensors: Tensor | None) -> Any:
    double = any(x is not None and x.dtype == torch.float64 for x in tensors)
    return tl.float64 if double else tl.float32


def _is_dense(x: Tensor) -> bool:
    return x.is_contiguous() or is_channels_last(x)


def _rows(x: Tensor, other: Tensor) -> tuple[int, int]:
    """How another tensor lies beside x in memory: rows of so many elements, so far apart; zeros where it does not."""
    if other.shape != x.shape:
        return 0, 0
    if other.stride() == x.stride():
        return x.numel(), x.numel()
    if is_channels_last(x):  # some channels of a larger picture
        channels, stride = x.shape[1], other.stride(3)
        expected = (x.shape[2] * x.shape[3] * stride, 1, x.shape[3] * stride, stride)
        return (channels, stride) if other.stride() == expected else (0, 0)
    return (x.numel(), x.numel()) if x.is_contiguous() and other.is_contiguous() else (0, 0)


def _by_rows(x: Tensor, layout: torch.memory_format) -> tuple[tuple[int, int], int, int]:
    """A grid over the rows of a picture and blocks of each; elements side by side, and of a block.

    The layout is told apart: a picture of one pixel lies in either.
    """
    inner, rows = (x.shape[1], x.shape[0]) if layout == torch.channels_last else (1, x.shape[0] * x.shape[1])
    length = x.shape[3] * inner
    block = min(next_power_of_2(length), 1024)
    return (rows * x.shape[2], cdiv(length, block)), inner, block


def _by_tiles(places: int, channels: int, count: int) -> tuple[int, int, int]:
    return cdiv(places, _TILE), cdiv(channels, _TILE), count
