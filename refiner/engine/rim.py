"""A fill without a step at the hole's edge.

What a prediction differs from the photo by just outside the hole is spread harmonically into it (Pérez, Gangnet and
Blake, "Poisson Image Editing", SIGGRAPH 2003), screened, so that it is gone after a short distance: a step at one rim
does not tint the whole fill.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from refiner.blur import gaussian_blur
from refiner.exemplar.laplace import rim_sum, solve
from refiner.exemplar.nodes import Nodes
from refiner.regions import regions_of

if TYPE_CHECKING:
    from torch import Tensor

_MOST = (
    0.15  # a larger difference is an edge of the scene which the prediction misses; from its double nothing is spread
)
_SHARE = 0.5  # of the hole's half-width, over which a difference falls off
_REACH = (4.0, 16.0)  # in pixels, at least and at most
_SIGMA = 1.0  # pixels, over which differences are averaged first: with less, the rim is smoother than the photo
_MARGIN = 3  # pixels around a hole that are looked at
_STEPS = 64  # of the solver at most: four times the farthest reach


def blend_rim(prediction: Tensor, image: Tensor, hole: Tensor) -> Tensor:
    """Join a prediction to the photo at the edge of each hole.

    Args:
        prediction: (1,3,H,W), of the whole picture.
        image: (1,3,H,W), the photo.
        hole: (1,1,H,W), bool.

    Returns:
        (1,3,H,W); outside the hole as it was.
    """
    blended = prediction.clone()
    for region in regions_of(hole):
        window = region.window.grown(_MARGIN, (hole.shape[-2], hole.shape[-1]))
        known = ~window.of(hole)[0, 0]
        nodes = Nodes(region.within(window))
        part, count = nodes.parts()
        pixels, edges = (torch.bincount(each, minlength=count).to(prediction) for each in (part, part[nodes.at_rim]))
        reach = (_SHARE * pixels / edges.clamp(min=1)).clamp(*_REACH)[part, None]
        offset = _smooth(_small((window.of(image) - window.of(prediction))[0]), known)
        spread = solve(nodes, rim_sum(offset, nodes), steps=_STEPS, screening=reach**-2)
        target = window.of(blended)[0]
        y, x = nodes.places.T
        target[:, y, x] += spread.T
    return blended


def _smooth(offset: Tensor, known: Tensor) -> Tensor:
    """Offsets averaged over known neighbors, so that a pixel's grain is not carried into the hole; (3,h,w), 0 there."""
    share = known[None].to(offset)
    total, weight = (gaussian_blur(x[None], 5, _SIGMA, "replicate")[0] for x in (offset * share, share))
    return torch.where(known, total / weight.clamp(min=1e-3), 0)


def _small(difference: Tensor) -> Tensor:
    """Differences that are of exposure or color; larger ones fade out."""
    return difference * (2 - difference.abs().amax(dim=0, keepdim=True) / _MOST).clamp(0, 1)
