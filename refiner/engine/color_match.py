"""Remove the color offset that a fill may have against its surroundings."""

from __future__ import annotations

import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from refiner.engine.padding import bands
from refiner.exemplar.laplace import harmonic_fill
from refiner.regions import regions_of

_RING = 16  # pixels around a hole in which prediction and photo are compared
_CELL = 8  # pixels, of which each side of a cell of the offset is made; bands are whole cells
_STEPS = 500  # of the solver at most; it ends where it is solved


def match_color(prediction: Tensor, image: Tensor, hole: Tensor) -> Tensor:
    """Shift a prediction's colors so that around each hole it has the photo's, all along the rim.

    The difference on the known pixels within 16 px of the hole is spread harmonically into it, in CIE Lab, where equal
    differences look equal.

    Args:
        prediction: (1,3,H,W), of the whole picture.
        image: (1,3,H,W) in [0,1], the photo.
        hole: (1,1,H,W), bool.

    Returns:
        (1,3,H,W); in the hole in [0,1], elsewhere as it was.
    """
    matched = prediction.clone()
    for region in regions_of(hole):
        window = region.window.grown(_RING, (hole.shape[-2], hole.shape[-1]))
        own = region.within(window)
        near = ndimage.distance_transform_edt(~own.cpu().numpy()) <= _RING
        ring = torch.from_numpy(near).to(hole.device) & ~window.of(hole)[0, 0]
        if ring.any():
            part = window.of(matched)
            shifted = _matched_along(window.of(prediction), window.of(image), ring)
            part.copy_(torch.where(own, shifted, part))
    return matched


def _matched_along(prediction: Tensor, image: Tensor, ring: Tensor) -> Tensor:
    """A prediction (1,3,h,w) less a smooth surface through its differences from the photo on a ring (h,w)."""
    height = prediction.shape[-2]
    totals, shares = [], []
    for rows in bands(height):
        difference = (_lab(prediction[:, :, rows]) - _lab(image[:, :, rows])) * ring[rows]
        totals.append(functional.avg_pool2d(difference, _CELL, ceil_mode=True))
        shares.append(functional.avg_pool2d(ring[None, None, rows].to(difference), _CELL, ceil_mode=True))
    total, share = torch.cat(totals, dim=2), torch.cat(shares, dim=2)
    there = share > 0
    # A cell alone may have an edge of the scene; its neighbors on the ring tell of the same offset.
    total, weight = (functional.avg_pool2d(x, 3, 1, 1) for x in (total, share))
    offset = torch.where(there, total / weight.clamp(min=1e-6), 0)[0]
    offset = harmonic_fill(offset, ~there[0, 0], _STEPS)
    surface = functional.interpolate(offset[None], scale_factor=_CELL, mode="bilinear", align_corners=False)
    from kornia.color import lab_to_rgb  # noqa: PLC0415  see `refiner.blur`

    matched = [
        lab_to_rgb(_lab(prediction[:, :, rows]) - surface[:, :, rows, : prediction.shape[-1]]) for rows in bands(height)
    ]
    return torch.cat(matched, dim=2)


def _lab(picture: Tensor) -> Tensor:
    from kornia.color import rgb_to_lab  # noqa: PLC0415  see `refiner.blur`

    lab: Tensor = rgb_to_lab(picture.clamp(0, 1))
    return lab
