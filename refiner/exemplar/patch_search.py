"""Patches searched for one hole, from a small picture to a larger one: how the scene around it goes on.

At each level every patch that reaches into the hole finds the known patch most like it, and every pixel becomes what
the patches over it say together; again and again, until it is one picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional

from refiner.exemplar.palette import Palette
from refiner.exemplar.patches import Found, Patches, Scene
from refiner.exemplar.progress import part

if TYPE_CHECKING:
    from refiner.exemplar.progress import OnStep

_HOLD = 1.0  # of the colors that the rim suggests, at the smallest level, against those of the patch
_TEXTURE_AREA = 9  # pixels over which texture is measured, where it is measured
_NARROW = 4.0  # pixels from a hole's middle to its rim, at the smallest level at most
_LEAST_SIDE = 48  # of what may be halved


def search(scene: Scene, given: Tensor | None, random: torch.Generator, on_step: OnStep) -> Found | None:
    """Search a photo's smallest level, by way of smaller ones still, where the hole is a few patches wide.

    Args:
        scene: the smallest level.
        given: colors of a fill, (3,H,W), whose patches are matched and which is not changed; None to find one.
        random: draws.
        on_step: see `OnStep`.

    Returns:
        What was found; None where there are hardly any patches to copy.
    """
    if given is not None:
        patches = Patches(scene, random)
        return patches.matched(given, random) if patches.possible else None
    scenes = [scene]
    while _may_be_halved(scenes[0]):
        scenes.insert(0, _halved(scenes[0]))
    found: Found | None = None
    for number, each in enumerate(scenes):
        patches = Patches(each, random, _HOLD / 2**number)
        if not patches.possible:
            continue
        told = part(on_step, number / len(scenes), (number + 1) / len(scenes))
        if found is None:
            found = patches.settled(patches.in_layers(), None, random, told)
        else:
            found = patches.settled(*patches.enlarged(found, random), random, told)
    return found if patches.possible else None


def search_larger(scene: Scene, before: Found, random: torch.Generator, on_step: OnStep) -> Found | None:
    """Search the next larger level, about twice as large, from what was found; None where there are no patches."""
    patches = Patches(scene, random)
    if not patches.possible:
        return None
    return patches.settled(*patches.enlarged(before, random), random, on_step)


def texture_of(image: Tensor, hole: Tensor) -> Tensor:
    """How large the steps between pixels are on average around each known one, along rows and columns; (2,H,W)."""
    known = (~hole).float()
    gray = image.mean(dim=0)
    steps = torch.zeros(2, *gray.shape)
    steps[0, :, 1:] = (gray[:, 1:] - gray[:, :-1]).abs() * known[:, 1:] * known[:, :-1]
    steps[1, 1:] = (gray[1:] - gray[:-1]).abs() * known[1:] * known[:-1]
    total, share = (
        functional.avg_pool2d(each[None], _TEXTURE_AREA, 1, _TEXTURE_AREA // 2)[0] for each in (steps, known[None])
    )
    return total / share.clamp(min=1e-3) * known


def reduced(texture: Tensor, hole: Tensor, size: tuple[int, int]) -> Tensor:
    """Texture at a smaller size, the mean of what is known; (2,h,w)."""
    known = (~hole).float()[None]
    total, share = (functional.adaptive_avg_pool2d(each[None], size)[0] for each in (texture * known, known))
    return total / share.clamp(min=1e-3)


def _may_be_halved(scene: Scene) -> bool:
    hole = ~scene.palette.known
    return min(hole.shape) >= _LEAST_SIDE and float(distance_transform_edt(hole.numpy()).max()) > _NARROW


def _halved(scene: Scene) -> Scene:
    """Half the size; what is mostly hole is hole, and what is wholly source is source."""
    palette = scene.palette
    height, width = (side // 2 * 2 for side in palette.known.shape)
    known = palette.known.float()[None]
    share = functional.avg_pool2d(known[None, :, :height, :width], 2)[0]
    hole = share[0] < 0.5  # noqa: PLR2004
    image, texture = (
        functional.avg_pool2d((each * known)[None, :, :height, :width], 2)[0] / share.clamp(min=1e-6) * ~hole
        for each in (palette.image, scene.texture)
    )
    source = functional.avg_pool2d(palette.source.float()[None, None, :height, :width], 2)[0, 0] == 1
    half = None if palette.half is None else max(palette.half // 2, hole.shape[1])
    return Scene(Palette(image, hole, source & ~hole, half), texture)
