"""Laplace's equation with screening inside a hole."""

from __future__ import annotations

import torch
from torch import Tensor

_SOLVED = 1e-12  # squared residual


def solve(hole: Tensor, b: Tensor, start: Tensor | None = None, *, steps: int, screening: float = 0.0) -> Tensor:
    """Some steps of conjugate gradients, each color by itself.

    On the hole's pixels, `degree * x - (sum of the four neighbors' x) + screening * x = b`, where `degree` counts
    neighbors inside the picture, and x is 0 beside the hole: other values there belong into b. Nothing flows across the
    picture's edge.

    Args:
        hole: (H,W), bool.
        b: (C,H,W); it counts inside the hole.
        start: x to start from; 0 where None.
        steps: each spreads what is known by a pixel.
        screening: x falls off away from where b is over about `screening ** -0.5` pixels; 0 for not at all.

    Returns:
        x (C,H,W), 0 outside the hole.
    """
    inside = hole[None].to(b)
    degree = neighbor_sum(torch.ones_like(inside)) + screening

    def applied(y: Tensor) -> Tensor:
        return inside * (degree * y - neighbor_sum(y))

    x = torch.zeros_like(b) if start is None else inside * start
    residual = inside * b - applied(x)
    direction, squared = residual, _dot(residual, residual)
    for _ in range(steps):
        if not (squared > _SOLVED).any():
            break
        forward = applied(direction)
        length = squared / _dot(direction, forward).clamp(min=_SOLVED)
        x = x + length * direction
        residual = residual - length * forward
        before, squared = squared, _dot(residual, residual)
        direction = residual + squared / before.clamp(min=_SOLVED) * direction
    return x


def neighbor_sum(x: Tensor) -> Tensor:
    """Sum of the four neighbors' values, 0 beyond the edge; (...,H,W)."""
    total = torch.zeros_like(x)
    total[..., 1:, :] += x[..., :-1, :]
    total[..., :-1, :] += x[..., 1:, :]
    total[..., 1:] += x[..., :-1]
    total[..., :-1] += x[..., 1:]
    return total


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=(1, 2), keepdim=True)
