"""Structure from one fill, detail from another: what a smaller fill lacks is copied from the photo."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from refiner.engine.pyramid import halve_image

if TYPE_CHECKING:
    from torch import Tensor

_STEPS = 3


def add_detail(guide: Tensor, exemplar: Tensor, image: Tensor, hole: Tensor) -> Tensor:
    """A fill that agrees with a guide of half its size, with the finest octave of an exemplar.

    What halving loses of the exemplar's fill is added to the enlarged guide; then what halving the sum differs from the
    guide by is taken off again, as in back-projection (Irani and Peleg, "Improving Resolution by Image Registration",
    CVGIP 1991).

    Args:
        guide: the previous scale's composite; (1,3,h//2,w//2).
        exemplar: the photo with its hole filled by copying; (1,3,h,w).
        image: the photo, (1,3,h,w).
        hole: (1,1,h,w), bool.

    Returns:
        (1,3,h,w) in [0,1]; the photo outside the hole.
    """
    size = (image.shape[-2], image.shape[-1])
    detail = exemplar - _enlarged(halve_image(exemplar), size)
    filled = torch.where(hole, _enlarged(guide, size) + detail, image)
    for _ in range(_STEPS):
        missing = guide - halve_image(filled)
        filled = torch.where(hole, filled + _enlarged(missing, size), image)
    return filled.clamp(0, 1)


def _enlarged(x: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
