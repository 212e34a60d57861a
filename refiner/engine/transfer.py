"""Structure from one fill, detail from another: what a smaller fill lacks is copied from the photo."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from refiner.engine.back_projection import back_project, enlarged
from refiner.engine.pyramid import halve_image

if TYPE_CHECKING:
    from torch import Tensor

_TIMES = 3


def add_detail(guide: Tensor, exemplar: Tensor, image: Tensor, hole: Tensor) -> Tensor:
    """A fill that agrees with a guide of half its size, with the finest octave of an exemplar.

    What halving loses of the exemplar's fill is added to the enlarged guide; then what halving the sum differs from the
    guide by is taken off again by back-projection.

    Args:
        guide: the previous scale's composite; (1,3,h//2,w//2).
        exemplar: the photo with its hole filled by copying; (1,3,h,w).
        image: the photo, (1,3,h,w).
        hole: (1,1,h,w), bool.

    Returns:
        (1,3,h,w) in [0,1]; the photo outside the hole.
    """
    detail = exemplar - enlarged(halve_image(exemplar), image)
    filled = torch.where(hole, enlarged(guide, image) + detail, image)
    return back_project(filled, guide, hole, times=_TIMES).clamp(0, 1)
