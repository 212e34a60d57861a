"""Parts of a network with a small receptive field, computed in strips: the same numbers, a lower peak.

Only one strip's activations exist at a time, forward and backward. Between the two, each strip keeps what autograd
saves for it; inside `FrozenGradients` that is packed bits.
"""

# Autograd functions are called through an untyped `apply`.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import Function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from fractions import Fraction

# Of the thread at work, so that threads with one model do not change each other's.
_strip_height: ContextVar[int | None] = ContextVar("strip_height", default=None)


@contextmanager
def strip_height(rows: int | None) -> Iterator[None]:
    """Have networks that can compute their full-resolution ends `rows` image rows at a time; None for all at once."""
    token = _strip_height.set(rows)
    try:
        yield
    finally:
        _strip_height.reset(token)


def current_strip_height() -> int | None:
    """Image rows that a network computes at once in its full-resolution ends; None for all."""
    return _strip_height.get()


def in_strips(run: Callable[[Tensor], Tensor], x: Tensor, *, rows: int, halo: int, scale: Fraction) -> Tensor:
    """Compute `run(x)` in horizontal strips; outputs and gradients are those of the whole picture.

    Args:
        run: maps (N,C,h,w) to (N,C',h*scale,w*scale) so that an output row depends only on the input rows within
            `halo` coarse rows of it.
        x: (N,C,h,w). Where `scale` is below 1, h is a multiple of its denominator.
        rows: height of a strip in coarse rows, those of the end of lower resolution.
        halo: coarse rows that a strip needs on either side. Where `run` has a stride inside, `rows` and `halo` are
            multiples of it, so that strips start in step.
        scale: rows of output to one of input: n or 1/n.
    """
    fine = max(scale, 1 / scale).numerator
    coarse_height = x.shape[2] if scale >= 1 else x.shape[2] // fine
    if coarse_height <= rows:
        return run(x)
    strips = [_Strip.at(top, rows, halo, coarse_height, fine, scale) for top in range(0, coarse_height, rows)]
    if torch.is_grad_enabled() and x.requires_grad:
        out: Tensor = _Strips.apply(x, run, strips)
        return out
    return torch.cat([run(x[:, :, strip.source])[:, :, strip.kept] for strip in strips], dim=2)


@dataclass(frozen=True)
class _Strip:
    """One strip: the input rows it reads, and which of its output rows are right and new."""

    source: slice
    kept: slice
    target: slice

    @classmethod
    def at(cls, top: int, rows: int, halo: int, height: int, fine: int, scale: Fraction) -> _Strip:
        """The strip of `rows` coarse rows from `top`."""
        bottom = min(top + rows, height)
        above, below = max(top - halo, 0), min(bottom + halo, height)
        into, out_of = (1, fine) if scale >= 1 else (fine, 1)  # input and output rows to a coarse one
        return cls(
            source=slice(above * into, below * into),
            kept=slice((top - above) * out_of, (bottom - above) * out_of),
            target=slice(top * out_of, bottom * out_of),
        )


class _Attach(Function):
    """Starts a strip's graph at a handle without data, so that the graph does not keep the input alive."""

    @staticmethod
    def forward(ctx: Any, handle: Tensor, data: Tensor) -> Tensor:  # noqa: ARG004
        return data.view_as(data)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ARG004
        return grad, None


class _Fed(Function):
    """A number whose gradient is taken for another one of its input's shape, which is handed over in between.

    Given to `torch.autograd.grad` itself, a gradient makes PyTorch import half a second of symbolic algebra.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, handed_over: list[Tensor]) -> Tensor:
        ctx.handed_over = handed_over
        return x.new_zeros(())

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.handed_over.pop(), None


class _Strips(Function):
    """Holds one graph a strip, and walks them one at a time on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, run: Callable[[Tensor], Tensor], strips: list[_Strip]) -> Tensor:
        ctx.graphs, pieces = [], []
        for strip in strips:
            data = x[:, :, strip.source].detach()
            with torch.enable_grad():
                handle = x.new_empty(1).expand(data.shape).requires_grad_()
                piece = run(_Attach.apply(handle, data))[:, :, strip.kept]
                gradient: list[Tensor] = []
                end = _Fed.apply(piece, gradient)
            ctx.graphs.append((strip, handle, end, gradient))
            pieces.append(piece.detach())
        ctx.x_like = x.shape, x.dtype, x.device, x.is_contiguous(memory_format=torch.channels_last)
        return torch.cat(pieces, dim=2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.graphs is None:
            raise RuntimeError("strips: walked back a second time; each strip's graph is freed as soon as it is used.")
        shape, dtype, device, channels_last = ctx.x_like
        back = torch.zeros(shape, dtype=dtype, device=device)
        if channels_last:
            back = back.contiguous(memory_format=torch.channels_last)
        graphs, ctx.graphs = ctx.graphs, None
        while graphs:
            strip, handle, end, gradient = graphs.pop()
            gradient.append(grad[:, :, strip.target].contiguous())
            (piece,) = torch.autograd.grad(end, handle)
            back[:, :, strip.source] += piece
        return back, None, None
