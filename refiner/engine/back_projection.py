"""Back-projection: what a fill, halved, differs from the coarser scale by is added to it.

After Irani and Peleg, "Improving Resolution by Image Registration", CVGIP 1991.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from refiner.engine.pyramid import enlarge, halve_hole_inward, halve_image
from refiner.regions import Flags, parts_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from refiner.engine.objective import Loss, Target
    from refiner.settings import Keep

_FEATHER = 32  # halved pixels from a hole's rim to where the coarser scale is followed fully; at most to the middle
_RIM = 0.25  # share of that way in which it is not followed at all
_ROUNDING = 1e-5  # a loss that is higher by this share is the same
_DETAIL_TIMES = 3


def back_project_window(
    prediction: Tensor, before: Tensor, target: Target, objective: Loss, times: int, keep: Keep
) -> tuple[Tensor, Tensor, Tensor]:
    """Correct a window's prediction in the hole, so that it agrees with the coarser scale where that is trusted.

    Where the best is to be kept, an image whose loss would rise keeps its prediction.

    Args:
        prediction: (N,3,H,W), padded.
        before: its loss, of each image; (N,).
        target: what it is measured against.
        objective: gives its loss.
        times: see `back_project`.
        keep: see `Settings`.

    Returns:
        The prediction, (N,3,H,W); the loss of each image, (N,); and which were changed, (N,), bool.
    """
    height, width = target.size
    own, hole = prediction[..., :height, :width], target.unpadded_hole
    # The photo and not the prediction of it stands outside, as it does in the coarser scale.
    fill = torch.where(hole, own, target.image[..., :height, :width])
    trust = trust_in_coarse(hole).to(prediction)
    fill = back_project(fill, target.coarse, hole, times=times, trust=trust)
    corrected = prediction.clone()
    corrected[..., :height, :width] = torch.where(hole, fill.clamp(0, 1), own)
    with torch.no_grad():
        after = objective(corrected)
    taken = (corrected != prediction).flatten(1).any(dim=1)
    if keep == "best":
        taken = taken & (after <= before * (1 + _ROUNDING))
    return torch.where(taken[:, None, None, None], corrected, prediction), torch.where(taken, after, before), taken


def add_detail(coarse: Tensor, copies: Tensor, image: Tensor, hole: Tensor) -> Tensor:
    """A fill that agrees with the coarser scale and has the finest octave of copies.

    What halving loses of the copies is added to the enlarged coarser scale; then what halving the sum differs from the
    coarser scale by is taken off again by back-projection. Where an edge of the copies lies beside the coarser scale's,
    both would leave bright and dark dashes along it: no color is beyond those that the coarser scale has around it and
    the copies have there.

    Args:
        coarse: the composite of the scale below; (1,3,h//2,w//2).
        copies: the photo with its hole filled by copying; (1,3,h,w).
        image: the photo, (1,3,h,w).
        hole: (1,1,h,w), bool.

    Returns:
        (1,3,h,w) in [0,1]; the photo outside the hole.
    """
    size = (image.shape[-2], image.shape[-1])
    detail = copies - enlarge(halve_image(copies), size)
    filled = torch.where(hole, enlarge(coarse, size) + detail, image)
    found = back_project(filled, coarse, hole, times=_DETAIL_TIMES)
    least, most = (
        functional.interpolate(sign * functional.max_pool2d(sign * coarse, 3, 1, 1), size=size) for sign in (-1, 1)
    )
    bounded = torch.minimum(torch.maximum(found, torch.minimum(least, copies)), torch.maximum(most, copies))
    return torch.where(hole, bounded, image).clamp(0, 1)


def back_project(fill: Tensor, coarse: Tensor, hole: Tensor, *, times: int, trust: Tensor | None = None) -> Tensor:
    """Correct a fill so that, halved, it agrees with the coarser scale.

    Args:
        fill: (N,3,h,w), the photo outside the hole.
        coarse: (N,3,h//2,w//2).
        hole: (N,1,h,w), bool; no other pixel changes.
        times: how often; the differences get smaller each time, and finer.
        trust: how far the coarser scale is followed, 0 to 1; (N,1,h//2,w//2). None for fully.

    Returns:
        (N,3,h,w), which may leave [0,1].
    """
    for _ in range(times):
        missing = coarse - halve_image(fill)
        if trust is not None:
            missing = missing * trust
        fill = torch.where(hole, fill + enlarge(missing, (fill.shape[-2], fill.shape[-1])), fill)
    return fill


def trust_in_coarse(hole: Tensor) -> Tensor:
    """How far the coarser scale is followed: not at the rim, fully inside, rising evenly, whatever a hole's width.

    Args:
        hole: (N,1,h,w), bool.

    Returns:
        (N,1,h//2,w//2) in [0,1], float32; 0 outside. Beyond the picture counts as hole.
    """
    halved = halve_hole_inward(hole)
    if halved.is_meta:
        return torch.empty_like(halved, dtype=torch.float32)
    return torch.from_numpy(np.stack([_ramps(each)[None] for each in halved[:, 0].cpu().numpy()])).to(hole.device)


def _ramps(hole: Flags) -> NDArray[np.float32]:
    """Of (h,w): 0 at the rim, 1 from `_FEATHER` on or in the middle of what is thinner, eased in between."""
    if hole.all():
        return np.ones(hole.shape, np.float32)
    depth = np.minimum(ndimage.distance_transform_edt(hole), _FEATHER).astype(np.float32)
    numbers, _ = parts_of(hole)
    middle = np.ones_like(depth)
    for number, box in enumerate(ndimage.find_objects(numbers), start=1):
        own = numbers[box] == number
        # The depth of the middle nearby. It changes no faster than the depth itself, so that there is no step.
        deepest = ndimage.maximum_filter(depth[box] * own, size=2 * _FEATHER + 1)
        middle[box][own] = deepest[own]
    way = np.clip((depth / middle - _RIM) / (1 - _RIM), 0, 1)
    eased: NDArray[np.float32] = way * way * (3 - 2 * way)
    return eased
