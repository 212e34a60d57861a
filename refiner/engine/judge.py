"""Which of two fills holds better, region by region of a hole, without the real picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from refiner.evaluation.no_reference import RING, looks
from refiner.regions import regions_of

if TYPE_CHECKING:
    from torch import Tensor

_MARGIN = 0.35  # by which a network's fill must look worse: only it knows what belongs where
_GRID = 0.15  # spread over phases that nature has too
_MOST = 8.0  # a ratio beyond it, or below its inverse, counts as this


def network_holds(network: Tensor, copies: Tensor, hole: Tensor) -> Tensor:
    """Where a network's fill is kept: where it looks no worse than copies do beside the photo around it.

    Args:
        network: one picture with its hole filled; (1,3,H,W).
        copies: the same, filled by copying.
        hole: (1,1,H,W), bool.

    Returns:
        Bool, (1,1,H,W): the regions of the hole in which the network's fill holds.
    """
    kept = torch.zeros_like(hole)
    for each in regions_of(hole):
        around = each.window.grown(2 * RING, (hole.shape[-2], hole.shape[-1]))
        own = each.within(around)[None, None]
        ours, theirs = (faults(around.of(fill), around.of(hole), own) for fill in (network, copies))
        if ours <= theirs + _MARGIN:
            around.of(kept).logical_or_(own)
    return kept


def faults(picture: Tensor, hole: Tensor, region: Tensor) -> float:
    """How much a fill differs from the photo around it: in each octave, at the rim, and by a grid; 0 for not at all."""
    seen = looks(picture.float(), hole, region)
    lost = seen.octaves.clamp(1 / _MOST, _MOST).log().abs().mean()
    edge = seen.rim.clamp(1, _MOST).log().mean()
    grid = (seen.grid - _GRID).clamp(min=0).mean()
    return float(lost + edge + grid)
