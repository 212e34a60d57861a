"""Further fills of one hole, and which of them looks best beside the photo around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from refiner.engine.judge import faults
from refiner.evaluation.no_reference import RING
from refiner.images.drawing import box_of
from refiner.images.picture import Picture
from refiner.regions import regions_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from refiner.images.planes import Mask
    from refiner.models.inpainter import Inpainter
    from refiner.settings import Settings

MOST = 4  # fills of one hole
_COPIES = {"refine": True, "start": "exemplar", "detail": "exemplar"}
_NETWORK = {"refine": True, "start": "model", "detail": "features"}


def made_of_copies(settings: Settings, model: Inpainter) -> bool:
    """Whether a fill is made of copies from the photo, rather than by the network alone."""
    return "exemplar" in (settings.detail, model.spec.detail) and settings.detail != "features"


def copied(shares: Mapping[str, float]) -> bool:
    """Whether most of a fill is copies, by the shares of a result's last scale."""
    return shares.get("exemplar", 0) + shares.get("both", 0) > 0.5  # noqa: PLR2004  half


def another(seed: int, number: int, *, copies: bool) -> dict[str, Any]:
    """What to change in the settings of the first fill to get another.

    Args:
        seed: of the first fill.
        number: which one, from 1.
        copies: whether the first fill was made of copies.

    Returns:
        Settings by name: copies with other seeds, and once the network where the first fill was made of copies.
    """
    if copies and number == 2:  # noqa: PLR2004  the network takes longer, so that quick copies come before it
        return dict(_NETWORK)
    return {**_COPIES, "seed": seed + (number - 1 if copies and number > 2 else number)}  # noqa: PLR2004  as above


def faults_of(picture: Picture, hole: Mask) -> float:
    """How much a fill differs from the photo around it, as the engine judges: the mean over all of the hole's pixels.

    Args:
        picture: with its hole filled.
        hole: (H,W), true where it was filled; at least one pixel.
    """
    left, top, right, bottom = box_of(hole, 2 * RING) or (0, 0, 1, 1)
    inside = torch.from_numpy(hole[top:bottom, left:right].copy())[None, None]
    pixels = Picture(picture.color[top:bottom, left:right], metadata=picture.metadata).rgb()
    total = 0.0
    for each in regions_of(inside):
        around = each.window.grown(2 * RING, (inside.shape[-2], inside.shape[-1]))
        own = each.within(around)[None, None]
        total += faults(around.of(pixels), around.of(inside), own) * int(own.sum())
    return total / int(inside.sum())
