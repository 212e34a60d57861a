"""The comparison picture of `refiner inpaint --compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from refiner.images.picture import Picture, from_rgb

if TYPE_CHECKING:
    from refiner.photo import PhotoResult

_HOLE_COLOR = (1.0, 0.0, 1.0)


def side_by_side(result: PhotoResult, plain: Picture | None) -> Picture:
    """Original with tinted hole, `plain` where given, and result side by side, in 8-bit RGB and the result's size."""
    tint = torch.tensor(_HOLE_COLOR).view(1, 3, 1, 1)
    original = result.photo.picture.rgb()
    marked = torch.where(torch.from_numpy(result.photo.hole.mask), torch.lerp(original, tint, 0.6), original)
    panels = [marked, *([] if plain is None else [plain.rgb()]), result.picture.rgb()]
    size = panels[-1].shape[-2:]
    panels = [p if p.shape[-2:] == size else functional.interpolate(p, size=size, mode="area") for p in panels]
    return from_rgb(torch.cat(panels, dim=3))
