"""Laplace's equation with screening inside a hole, by conjugate gradients with a multigrid cycle before each step.

On the hole's pixels, `degree * x - (sum of the four neighbors' x) + screening * x = b`, where `degree` counts neighbors
inside the picture and x is 0 outside the hole: fixed values there, and no flow across the picture's edge.

Source: Briggs, Henson and McCormick, "A Multigrid Tutorial", 2000; the coarser grids are the equation itself on a hole
of half the size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_DAMPING = 0.8  # of Jacobi's iteration, which smooths best near it
_SWEEPS = 2  # before and after each coarser grid
_COARSEST = 4  # side in pixels
_COARSEST_SWEEPS = 20
_MOST_STEPS = 40


@dataclass(frozen=True)
class _Grid:
    """The equation at one size: where it holds, (1,H,W) of 0 and 1, and its diagonal, 1 elsewhere."""

    inside: Tensor
    diagonal: Tensor

    def apply(self, x: Tensor) -> Tensor:
        return self.inside * (self.diagonal * x - neighbor_sum(x))

    def smooth(self, x: Tensor, b: Tensor, sweeps: int) -> Tensor:
        step = _DAMPING * self.inside / self.diagonal
        for _ in range(sweeps):
            x = x + step * (b - self.diagonal * x + neighbor_sum(x))
        return x


def solve(hole: Tensor, b: Tensor, *, screening: float = 0.0, tolerance: float = 1e-3) -> Tensor:
    """Solve for x inside a hole.

    Args:
        hole: (H,W), bool.
        b: right-hand sides, each solved for; (C,H,W), 0 outside the hole.
        screening: how fast x falls off away from where b is: over about `screening ** -0.5` pixels; 0 for not at all.
        tolerance: of the residual, relative to b's.

    Returns:
        (C,H,W), 0 outside the hole.
    """
    grids = _grids(hole, screening, b.dtype)
    x = torch.zeros_like(b)
    residual = b.clone()
    target = tolerance * residual.norm()
    if target == 0:
        return x
    z = _cycle(grids, residual)
    direction, product = z, (residual * z).sum()
    for _ in range(_MOST_STEPS):
        applied = grids[0].apply(direction)
        length = product / (direction * applied).sum()
        x = x + length * direction
        left = residual - length * applied
        if left.norm() < target:
            break
        z = _cycle(grids, left)
        # Polak and Ribiere's formula: the cycle is not quite symmetric.
        turn = ((left - residual) * z).sum() / product
        residual, product = left, (left * z).sum()
        direction = z + turn * direction
    return x


def neighbor_sum(x: Tensor) -> Tensor:
    """Sum of the four neighbors' values, 0 beyond the edge; (...,H,W)."""
    total = torch.zeros_like(x)
    total[..., 1:, :] += x[..., :-1, :]
    total[..., :-1, :] += x[..., 1:, :]
    total[..., 1:] += x[..., :-1]
    total[..., :-1] += x[..., 1:]
    return total


def _grids(hole: Tensor, screening: float, dtype: torch.dtype) -> list[_Grid]:
    inside = hole[None].to(dtype)
    grids: list[_Grid] = []
    while True:
        degree = neighbor_sum(torch.ones_like(inside))
        diagonal = torch.where(inside > 0, (degree + screening).clamp(min=_LEAST_DIAGONAL), 1.0)
        grids.append(_Grid(inside, diagonal))
        if min(inside.shape[-2:]) <= _COARSEST or not inside.any():
            return grids
        inside = (_halved(inside) >= 0.5).to(dtype)  # noqa: PLR2004  more hole than not
        screening *= 4  # a pixel has four times the area, and the differences keep their weight


_LEAST_DIAGONAL = 1e-3  # of a picture of one pixel


def _cycle(grids: list[_Grid], b: Tensor, level: int = 0) -> Tensor:
    """One V-cycle from zero."""
    grid = grids[level]
    if level == len(grids) - 1:
        return grid.smooth(torch.zeros_like(b), b, _COARSEST_SWEEPS)
    x = grid.smooth(_DAMPING * grid.inside * b / grid.diagonal, b, _SWEEPS - 1)
    left = grid.inside * (b - grid.diagonal * x + neighbor_sum(x))
    smaller = grids[level + 1].inside * _halved(left) * 4
    correction = functional.interpolate(
        _cycle(grids, smaller, level + 1)[None], scale_factor=2, mode="bilinear", align_corners=False
    )[0]
    return grid.smooth(x + grid.inside * correction[..., : b.shape[-2], : b.shape[-1]], b, _SWEEPS)


def _halved(x: Tensor) -> Tensor:
    """Mean of 2x2 pixels; those beyond an odd edge are 0."""
    height, width = x.shape[-2:]
    return functional.avg_pool2d(functional.pad(x[None], (0, width % 2, 0, height % 2)), 2)[0]
