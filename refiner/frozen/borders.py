"""Padding by reflection or replication and its way back, each in one operation that keeps the layout in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from refiner.frozen.layout import layout_of
from refiner.frozen.operators import on_meta, operator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@operator("pad(Tensor x, int[] widths, str mode) -> Tensor", kernel=True)
def pad(x: Tensor, widths: Sequence[int], mode: str) -> Tensor:
    """A picture padded by reflection or replication, in memory as it was.

    Args:
        x: (N,C,H,W).
        widths: left, right, top, bottom; from 0.
        mode: `reflect` or `replicate`.
    """
    # On a GPU, PyTorch's own copies a channels-last picture before and gives it back otherwise.
    return functional.pad(x, list(widths), mode=mode).contiguous(memory_format=layout_of(x))


@on_meta("pad")
def _pad_on_meta(x: Tensor, widths: Sequence[int], mode: str) -> Tensor:  # noqa: ARG001
    left, right, top, bottom = widths
    size = (*x.shape[:2], x.shape[2] + top + bottom, x.shape[3] + left + right)
    return torch.empty(size, dtype=x.dtype, device="meta", memory_format=layout_of(x))


@operator("unpad(Tensor grad, int[] widths, str mode) -> Tensor", kernel=True)
def unpad(grad: Tensor, widths: Sequence[int], mode: str) -> Tensor:
    """The gradient before padding by reflection or replication: what lies in the border is added where it came from.

    Args:
        grad: (N,C,H,W).
        widths: left, right, top, bottom; from 0.
        mode: `reflect` or `replicate`.
    """
    left, right, top, bottom = widths
    height = grad.shape[2] - top - bottom
    back = _folded(grad.narrow(2, top, height), left, right, mode)
    _add_border(back, _folded(grad.narrow(2, 0, top), left, right, mode), 2, 0, mode)
    _add_border(back, _folded(grad.narrow(2, top + height, bottom), left, right, mode), 2, 1, mode)
    return back


@on_meta("unpad")
def _unpad_on_meta(grad: Tensor, widths: Sequence[int], mode: str) -> Tensor:  # noqa: ARG001
    left, right, top, bottom = widths
    return torch.empty_like(grad[:, :, top : grad.shape[2] - bottom, left : grad.shape[3] - right])


def _folded(grad: Tensor, before: int, after: int, mode: str) -> Tensor:
    """Along the columns alone."""
    length = grad.shape[3] - before - after
    back = grad.narrow(3, before, length).clone()
    _add_border(back, grad.narrow(3, 0, before), 3, 0, mode)
    _add_border(back, grad.narrow(3, before + length, after), 3, 1, mode)
    return back


def _add_border(back: Tensor, border: Tensor, axis: int, end: int, mode: str) -> None:
    width, last = border.shape[axis], back.shape[axis] - 1
    if width == 0 or border.numel() == 0:
        return
    if mode == "replicate":
        back.narrow(axis, last * end, 1).add_(border.sum(dim=axis, keepdim=True))
    else:
        back.narrow(axis, last - width if end else 1, width).add_(border.flip(axis))
