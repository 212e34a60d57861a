"""A fill without a step at the hole's edge.

What a prediction differs from the photo by just outside the hole is spread harmonically into it (Pérez, Gangnet and
Blake, "Poisson Image Editing", SIGGRAPH 2003), screened, so that it is gone after a short distance: a step at one rim
does not tint the whole fill.
"""

from __future__ import annotations

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor
from torch.nn import functional

from refiner.engine.judge import parts_of
from refiner.exemplar.laplace import neighbor_sum, solve

_MOST = (
    0.15  # a larger difference is an edge of the scene which the prediction misses; from its double nothing is spread
)
_SHARE = 0.5  # of the hole's half-width, over which a difference falls off
_REACH = (4.0, 16.0)  # in pixels, at least and at most
_SIGMA = 1.0  # pixels, over which differences are averaged first: with less, the rim is smoother than the photo
_MARGIN = 3  # pixels around a hole that are looked at
_STEPS = 12  # of the solver, at each size


def blend_rim(prediction: Tensor, image: Tensor, hole: Tensor) -> Tensor:
    """Join a prediction to the photo at the edge of each hole.

    Args:
        prediction: (N,3,H,W), of the whole picture.
        image: (N,3,H,W), the photo.
        hole: (N,1,H,W), bool.

    Returns:
        (N,3,H,W); outside the hole as it was.
    """
    blended = prediction.clone()
    for index in range(len(hole)):
        for part in parts_of(hole[index : index + 1]):
            fill, photo, other = (part.around(x[index : index + 1], _MARGIN)[0] for x in (prediction, image, hole))
            own = torch.zeros_like(other[0])
            top, left = min(part.rows.start, _MARGIN), min(part.columns.start, _MARGIN)
            height, width = part.mask.shape[-2:]
            own[top : top + height, left : left + width] = part.mask[0, 0]
            offset = _smooth(_small(photo - fill), ~other)
            edge = own & (neighbor_sum((~other).to(fill))[0] > 0)
            reach = min(max(_SHARE * int(own.sum()) / max(int(edge.sum()), 1), _REACH[0]), _REACH[1])
            for color, target in zip(offset, part.around(blended[index : index + 1], _MARGIN)[0], strict=True):
                target.add_(_spread(color[None], ~other[0], own, reach)[0])  # one at a time: a third of the memory
    return blended


def _smooth(offset: Tensor, known: Tensor) -> Tensor:
    """Offsets averaged over known neighbors, so that a pixel's grain is not carried into the hole; (3,h,w), 0 there."""
    share = known.to(offset)
    total, weight = (
        gaussian_blur2d(x[None], (5, 5), (_SIGMA, _SIGMA), border_type="replicate")[0] for x in (offset * share, share)
    )
    return torch.where(known, total / weight.clamp(min=1e-3), 0)


def _small(difference: Tensor) -> Tensor:
    """Differences that are of exposure or color; larger ones fade out."""
    return difference * (2 - difference.abs().amax(dim=0, keepdim=True) / _MOST).clamp(0, 1)


def _spread(offset: Tensor, known: Tensor, hole: Tensor, reach: float) -> Tensor:
    """The screened-harmonic extension of offsets (C,h,w) into a hole, from that at half the size on; 0 outside it."""
    start = None
    if reach > 2:  # noqa: PLR2004  at less there is nothing that a few steps do not reach
        share = functional.avg_pool2d(known[None].to(offset), 2, ceil_mode=True)
        halved = functional.avg_pool2d(offset * known, 2, ceil_mode=True) / share.clamp(min=1e-3)
        inside = functional.max_pool2d(hole[None].float(), 2, ceil_mode=True)[0] > 0
        coarse = _spread(halved, share[0] > 0, inside & (share[0] == 0), reach / 2)
        coarse = torch.where(share > 0, halved, coarse)
        start = functional.interpolate(coarse[None], size=hole.shape, mode="bilinear", align_corners=False)[0]
    return solve(hole, neighbor_sum(offset * known), start, steps=_STEPS, screening=reach**-2)
