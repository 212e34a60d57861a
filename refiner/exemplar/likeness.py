"""How far a filled hole is from all that its photo has, without the real picture: broken structure shows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from refiner.errors import InputError
from refiner.exemplar.nodes import Nodes
from refiner.exemplar.palette import Palette
from refiner.exemplar.patch_search import PatchSearch, reduced, texture_of
from refiner.exemplar.patches import Scene, looks_of

if TYPE_CHECKING:
    from torch import Tensor

_SIDE = 256  # short side in pixels at which a picture is looked at, and halves of it
_SEED = 0  # of the patches that principal components are found from


def unlikeness(picture: Tensor, hole: Tensor) -> float:
    """How far patches of 7x7 pixels in a fill are from the ones most like them in the photo, at sizes from 256 px down.

    An edge that ends inside the hole or at its rim, one that bends where none does in the photo, bricks out of step
    and smears are patches that the photo has nowhere. The measure sees no repetition: a fill that copies the same
    thing over and over has a low value.

    Args:
        picture: with its hole filled; (1,3,H,W), in [0,1].
        hole: what was filled; (1,1,H,W), bool.

    Returns:
        The root mean square distance of colors and textures of whole patches, summed over sizes, times a factor for
        more or less texture than at the rim: near 0 where all of the fill is found in the photo.

    Raises:
        InputError: shapes do not fit each other, the hole is empty, or next to nothing is known.
    """
    if picture.shape[:2] != (1, 3) or hole.shape != (1, 1, *picture.shape[2:]):
        raise InputError(f"expected (1,3,H,W) and (1,1,H,W), got {tuple(picture.shape)} and {tuple(hole.shape)}.")
    if not hole.any():
        raise InputError("the hole is empty: there is nothing to compare.")
    image, inside = picture[0].cpu().float(), hole[0, 0].cpu()
    nothing = torch.zeros_like(inside)
    factor = min(_SIDE / min(inside.shape), 1)
    height, width = (max(round(side * factor), 1) for side in inside.shape)
    size = height, width
    known = reduced(image * ~inside, inside, size)
    filled = functional.adaptive_avg_pool2d(image[None], size)[0]
    small = functional.adaptive_max_pool2d(inside[None, None].float(), size)[0, 0] > 0
    scene = Scene(Palette(known, small, ~small), reduced(texture_of(image, inside), inside, size))
    search = PatchSearch(scene, torch.Generator().manual_seed(_SEED))
    if not search.possible:
        raise InputError("next to nothing is known beside the hole: there is nothing to compare with.")
    nodes = Nodes(small)
    faults = search.faults(nodes, looks_of(filled, reduced(texture_of(image, nothing), nothing, size))[:, small].T)
    part_of, count = nodes.parts()
    pixels = torch.bincount(part_of, minlength=count).to(faults)
    return math.sqrt(float((faults * pixels).sum() / pixels.sum()))
