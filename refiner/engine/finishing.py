"""What is done to a network's fill once it is there: its colors, its rim, its grain.

Copies need none of it: they have the photo's colors and grain, and are joined in the gradient domain.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from refiner.engine.color_match import match_color
from refiner.engine.grain import add_grain
from refiner.engine.rim import blend_rim
from refiner.memory import trim

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from refiner.settings import Settings


def finished(prediction: Tensor, image: Tensor, hole: Tensor, settings: Settings, *, last: bool) -> Tensor:
    """A network's prediction as the settings want it in the hole.

    Args:
        prediction: (N,3,H,W), of the whole picture: outside the hole it tells how it is off.
        image: (N,3,H,W) in [0,1], the photo at this scale.
        hole: (N,1,H,W), bool.
        settings: of the refinement.
        last: whether this is the full size.

    Returns:
        (N,3,H,W).
    """
    changes: list[Callable[[Tensor, Tensor, Tensor], Tensor]] = []
    if settings.matches_color and last:
        changes.append(match_color)
    if settings.refine and settings.blend_rim:  # unrefined, it is the network's own result, to compare with
        changes.append(blend_rim)
    if settings.refine and settings.grain and last:
        changes.append(partial(add_grain, seed=settings.seed))
    for change in changes:
        prediction = change(prediction, image, hole)
        trim()  # each takes and frees several times the picture, in blocks that do not fit the next one's
    return prediction
