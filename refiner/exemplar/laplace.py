"""Laplace's equation with screening on a hole's pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from refiner.exemplar.nodes import Nodes, picked, sum_near
from refiner.exemplar.progress import OnStep, unheard
from refiner.interruption import breathe

if TYPE_CHECKING:
    from torch import Tensor

_SOLVED = 1e-8  # squared residual: a fill is right within a quarter of a gray level of 8 bits
_LEFT = 1e-3  # of an equation: what is less is solved
_FEW = 0.7  # of the nodes: fewer are worth being solved for alone
_CHECKED = 16  # steps after which it is asked whether to go on


def solve(
    nodes: Nodes,
    b: Tensor,
    start: Tensor | None = None,
    *,
    steps: int,
    screening: Tensor | float = 0.0,
    hold: float = 1.0,
    on_step: OnStep = unheard,
) -> Tensor:
    """Some steps of conjugate gradients, each color by itself.

    `degree * x - (sum of the four neighbors' x) + screening * x = b`, where `degree` counts neighbors inside the
    picture, those beside the hole `hold` times, and x is 0 beside the hole: other values there belong into b. Nothing
    flows across the picture's edge.

    Args:
        nodes: the hole's pixels.
        b: (n,C).
        start: x to start from; 0 where None.
        steps: each spreads what is known by a pixel.
        screening: x falls off away from where b is over about `screening ** -0.5` pixels; 0 for not at all. A number,
            or one for each node, (n,1).
        hold: how firmly x is held to what lies beside the hole, in terms of how firmly neighbors are to each other.
        on_step: told the share of the steps done, now and then; true ends the solver with what it has.

    Returns:
        x (n,C).
    """
    neighbors, beside = (count.to(b) for count in nodes.counts)
    degree = neighbors + (hold - 1) * beside + screening
    left = b if start is None else b - (degree * start - sum_near(nodes.near, start))
    some = nodes.within((left.abs() > _LEFT).any(dim=1), steps)  # elsewhere x stays as it is
    if len(some) < _FEW * len(nodes):
        x = torch.zeros_like(b) if start is None else start.clone()
        part = picked(degree, some), picked(left, some)
        x.index_add_(0, some, _conjugate_gradients(nodes.near_among(some), *part, steps, on_step))
        return x
    found = _conjugate_gradients(nodes.near, degree, left, steps, on_step)
    return found if start is None else found + start


def _conjugate_gradients(near: Tensor, degree: Tensor, b: Tensor, steps: int, on_step: OnStep) -> Tensor:
    """The solver of `solve`, where nodes have these neighbors (n,4) and the matrix this diagonal (n,1)."""
    # Each color in a row: at small sizes a step takes half as long as with the three of a node beside each other.
    (left, _, above, below), degree = near.T.contiguous(), degree.T.contiguous()
    residual = b.T.clone(memory_format=torch.contiguous_format)
    adjoin = (left[1:] < len(near)).to(b)  # nodes lie row by row: to the left is the one before, or none
    padded = residual.new_zeros(residual.shape[0], residual.shape[1] + 1)  # what is no node is 0
    direction = padded[:, :-1].copy_(residual)

    def applied() -> Tensor:
        breathe()
        total = degree * direction
        total[:, 1:].addcmul_(direction[:, :-1], adjoin, value=-1)
        total[:, :-1].addcmul_(direction[:, 1:], adjoin, value=-1)
        for beside in (above, below):
            total -= padded.index_select(1, beside)
        return total

    x, squared = torch.zeros_like(residual), _dot(residual, residual)
    for step in range(steps):
        # Seldom: reading a value waits for the device.
        if step % _CHECKED == 0 and (on_step(step / steps) or not (squared > _SOLVED).any()):
            break
        forward = applied()
        length = squared / _dot(direction, forward).clamp(min=_SOLVED)
        x.addcmul_(length, direction)
        residual.addcmul_(length, forward, value=-1)
        before, squared = squared, _dot(residual, residual)
        direction.mul_(squared / before.clamp(min=_SOLVED)).add_(residual)
    return x.T.contiguous()


def harmonic_fill(image: Tensor, hole: Tensor, steps: int = 1000) -> Tensor:
    """The smoothest fill that agrees with a picture (C,H,W) at the rim of its hole (H,W), bool; (C,H,W).

    Args:
        image: the picture; what lies in the hole does not matter.
        hole: where to fill.
        steps: of the solver at most; it ends where it is solved.
    """
    nodes = Nodes(hole)
    filled = image.clone()
    filled.flatten(1)[:, nodes.at] = solve(nodes, rim_sum(image, nodes), steps=steps).T
    return filled


def rim_sum(image: Tensor, nodes: Nodes) -> Tensor:
    """Of each node, the sum of a picture's (C,H,W) values at its neighbors that are no nodes; (n,C)."""
    width = nodes.size[1]
    pixels, total = image.flatten(1), image.new_zeros(len(nodes), image.shape[0])
    for direction, step in enumerate((-1, 1, -width, width)):
        rim = (nodes.inside[:, direction] & ~nodes.has(direction)).nonzero()[:, 0]
        total[rim] += pixels[:, nodes.at[rim] + step].T
    return total


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=1, keepdim=True)
