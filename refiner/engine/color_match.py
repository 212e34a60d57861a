"""Remove the color offset that a fill may have against its surroundings."""

from __future__ import annotations

import numpy as np
import torch
from kornia.color import lab_to_rgb, rgb_to_lab
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from refiner.engine.padding import bands
from refiner.exemplar.laplace import neighbor_sum, solve

_RING = 16  # pixels around a hole in which prediction and photo are compared
_CELL = 8  # pixels, of which each side of a cell of a smooth offset is made; bands are whole cells
_STEPS = 500  # of the solver at most; it ends where it is solved


def match_color(prediction: Tensor, image: Tensor, hole: Tensor, *, smooth: bool = False) -> Tensor:
    """Shift a prediction's colors so that around each hole it has the photo's, on average or all along the rim.

    Args:
        prediction: (N,3,H,W), of the whole picture.
        image: (N,3,H,W) in [0,1], the photo.
        hole: (N,1,H,W), bool.
        smooth: spread the difference harmonically from the rim into the hole, in CIE Lab, where equal differences look
            equal; otherwise each hole has one.

    Returns:
        The prediction, in each hole less the difference on the known pixels within 16 px of it; there in [0,1].
    """
    matched = prediction.clone()
    for index in range(hole.shape[0]):
        mask = hole[index, 0].cpu().numpy()
        labels, _ = ndimage.label(mask, structure=np.ones((3, 3)))
        for number, box in enumerate(ndimage.find_objects(labels), start=1):
            rows, columns = (slice(max(extent.start - _RING, 0), extent.stop + _RING) for extent in box)
            own = labels[rows, columns] == number
            near = ndimage.distance_transform_edt(~own) <= _RING
            ring = torch.from_numpy(near & ~mask[rows, columns]).to(image.device)
            if not ring.any():
                continue
            around = (slice(index, index + 1), slice(None), rows, columns)
            where = torch.from_numpy(own).to(image.device)
            part = matched[index, :, rows, columns]
            if smooth:
                part[:, where] = _matched_along(prediction[around], image[around], ring)[0][:, where]
                continue
            difference = (prediction[around] - image[around])[0, :, ring].mean(dim=1)  # (3,)
            part[:, where] = (part[:, where] - difference[:, None]).clamp(0, 1)
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
    between = ~there[0, 0]
    offset = offset + solve(between, neighbor_sum(offset), steps=_STEPS)
    surface = functional.interpolate(offset[None], scale_factor=_CELL, mode="bilinear", align_corners=False)
    matched = [
        lab_to_rgb(_lab(prediction[:, :, rows]) - surface[:, :, rows, : prediction.shape[-1]]) for rows in bands(height)
    ]
    return torch.cat(matched, dim=2)


def _lab(picture: Tensor) -> Tensor:
    lab: Tensor = rgb_to_lab(picture.clamp(0, 1))
    return lab
