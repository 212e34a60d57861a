"""What a refinement reports while it runs, and what it gives at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Progress:
    """What a progress callback is told after each prediction.

    Attributes:
        scale: which scale, from 1, the smallest.
        scales: how many there are.
        size: the scale's height and width in pixels.
        step: which prediction at this scale, from 1.
        steps: how many there will be.
        loss: its loss, the mean over the batch; None at a scale that is only inpainted.
    """

    scale: int
    scales: int
    size: tuple[int, int]
    step: int
    steps: int
    loss: float | None


@dataclass(frozen=True)
class ScaleResult:
    """One scale of a result.

    Attributes:
        size: height and width in pixels.
        composite: the prediction in the hole, the photo elsewhere; (N,3,h,w).
        losses: loss of every prediction made while refining, the mean over the batch; empty at the smallest
            scale and at scales that were not reached.
        kept: index into `losses` of the prediction in the composite.
        refined: whether refinement changed the result of this scale.
        seconds: time spent on it.
    """

    size: tuple[int, int]
    composite: Tensor
    losses: tuple[float, ...]
    kept: int
    refined: bool
    seconds: float


@dataclass(frozen=True)
class Result:
    """What `refine` gives.

    Attributes:
        image: (N,3,H,W) in [0,1]; equal to the input outside the hole, bit for bit.
        scales: from the smallest to the full size; empty where there was no hole.
        shrunk_from: the input's height and width where `pixel_budget` shrank it, else None.
        stopped: whether the progress callback stopped the work; scales it did not reach are enlarged
            from the last one that it did.
    """

    image: Tensor
    scales: tuple[ScaleResult, ...]
    shrunk_from: tuple[int, int] | None
    stopped: bool
