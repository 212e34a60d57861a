"""Laplace's equation with screening inside a hole."""

from __future__ import annotations

import torch
from torch import Tensor

_SOLVED = 1e-12  # squared residual


def solve(
    hole: Tensor, b: Tensor, start: Tensor | None = None, *, steps: int, screening: float = 0.0, hold: float = 1.0
) -> Tensor:
    """Some steps of conjugate gradients, each color by itself.

    On the hole's pixels, `degree * x - (sum of the four neighbors' x) + screening * x = b`, where `degree` counts
    neighbors inside the picture, those beside the hole `hold` times, and x is 0 beside the hole: other values there
    belong into b. Nothing flows across the picture's edge.

    Args:
        hole: (H,W), bool.
        b: (C,H,W); it counts inside the hole.
        start: x to start from; 0 where None.
        steps: each spreads what is known by a pixel.
        screening: x falls off away from where b is over about `screening ** -0.5` pixels; 0 for not at all.
        hold: how firmly x is held to what lies beside the hole, in terms of how firmly neighbors are to each other.

    Returns:
        x (C,H,W), 0 outside the hole.
    """
    inside = hole[None].to(b)
    degree = neighbor_sum(torch.ones_like(inside)) + (hold - 1) * neighbor_sum(1 - inside) + screening

    def applied(y: Tensor) -> Tensor:
        return _less_neighbors(degree * y, y).mul_(inside)

    x = torch.zeros_like(b) if start is None else inside * start
    residual = inside * b
    if start is not None:
        residual -= applied(x)
    direction, squared = residual.clone(), _dot(residual, residual)
    for _ in range(steps):
        if not (squared > _SOLVED).any():
            break
        forward = applied(direction)
        length = squared / _dot(direction, forward).clamp(min=_SOLVED)
        x.addcmul_(length, direction)
        residual.addcmul_(length, forward, value=-1)
        before, squared = squared, _dot(residual, residual)
        direction.mul_(squared / before.clamp(min=_SOLVED)).add_(residual)
    return x


def neighbor_sum(x: Tensor) -> Tensor:
    """Sum of the four neighbors' values, 0 beyond the edge; (...,H,W)."""
    return -_less_neighbors(torch.zeros_like(x), x)


def _less_neighbors(total: Tensor, x: Tensor) -> Tensor:
    """A total less the four neighbors' values, changed in place."""
    total[..., 1:, :] -= x[..., :-1, :]
    total[..., :-1, :] -= x[..., 1:, :]
    total[..., 1:] -= x[..., :-1]
    total[..., :-1] -= x[..., 1:]
    return total


def _dot(a: Tensor, b: Tensor) -> Tensor:
    product: Tensor = torch.linalg.vecdot(a.flatten(1), b.flatten(1))
    return product[:, None, None]
