"""Weights that rise from 0 at a hole's edge, over a distance that follows the hole's own width.

An ellipse of one size erodes a thin hole away, and leaves the same rim of a wide one free, however wide. Here a pixel's
weight depends on how far it is from the edge, relative to how wide the hole is around it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from refiner.engine.pyramid import halve_hole_inward

_SHARE = 0.5  # of the hole's half-width around a pixel, over which weights rise


def soft_region(hole: Tensor, most: int) -> Tensor:
    """Weights for a hole at half its size.

    A pixel at the edge of a hole has a small weight, one in its middle 1. Where a hole is so thin that no pixel of half
    the size lies wholly in it, its share of a pixel is the weight. Nothing depends on values read, so that this runs on
    the `meta` device too.

    Args:
        hole: (N,1,H,W), bool; beyond the picture counts as hole.
        most: pixels, at half the size, over which weights rise at most; 0 gives every pixel of the hole 1.

    Returns:
        (N,1,H//2,W//2), float32, in [0,1]; 0 outside the hole.
    """
    inward = halve_hole_inward(hole)
    distance, half_width = _distances(inward, reach=round(most / _SHARE))
    rise = (_SHARE * half_width).clamp(min=0.5, max=max(most, 0.5))
    rising = ((distance - 0.5) / rise).clamp(0, 1)  # the outermost pixel's center lies half a pixel from the edge
    weights = rising * rising * (3 - 2 * rising)
    covered = functional.interpolate(hole.float(), size=inward.shape[-2:], mode="area")
    cut_off = functional.max_pool2d(inward.float(), 3, stride=1, padding=1) > 0  # at the edge, by halving inward
    return torch.where(cut_off, weights, covered)


def _distances(hole: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """Each pixel's distance from the known pixels, and the half-width of the largest octagon in the hole that has it.

    Both count pixels, the outermost of the hole as 1, up to `reach`. Octagons grow by diamonds and squares in turn.
    """
    eroded = hole.float()
    distance = eroded
    for step in range(1, reach):
        eroded = 1 - _grown(1 - eroded, step)
        distance = distance + eroded
    # What is left of the hole at each distance grows back to the octagons that lie in the hole; the largest counts.
    half_width = torch.zeros_like(distance)
    for step in range(max(reach, 1), 0, -1):
        half_width = torch.maximum(half_width, step * (distance >= step).to(distance))
        if step > 1:
            half_width = _grown(half_width, step - 1)
    return distance, half_width


def _grown(x: Tensor, step: int) -> Tensor:
    """Grown by a pixel to each side: by a square where `step` is even, by a diamond where it is odd."""
    if step % 2:
        return torch.maximum(functional.max_pool2d(x, (3, 1), 1, (1, 0)), functional.max_pool2d(x, (1, 3), 1, (0, 1)))
    return functional.max_pool2d(x, 3, stride=1, padding=1)
