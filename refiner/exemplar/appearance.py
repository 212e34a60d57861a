"""What a fill should look like, roughly: as a given one does, as a search of patches found, or as the rim suggests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor

from refiner.exemplar.laplace import harmonic_fill
from refiner.regions import dilated

if TYPE_CHECKING:
    from refiner.exemplar.nodes import Nodes
    from refiner.exemplar.palette import Palette
    from refiner.exemplar.patches import Found, Scene

_SMOOTHED = 1.5  # sigma in pixels at the smallest level of what colors are compared by
_HARMONIC_WEIGHT = 0.1  # of the colors that the rim suggests
_NEAR_WEIGHT = 1.0  # where it is near
UNKNOWN = 0.06  # squared difference where one of the two may not be copied
_NEAR_UNKNOWN = 0.2
_GIVEN_WEIGHT = 2.0  # of the colors of a fill that is to be followed
_FOUND_WEIGHT = 0.5  # of the colors that a search found, which are not smoothed
_BUSY_WEIGHT = 0.1  # of how busy the photo is
_FOUND_BUSY_WEIGHT = 0.5
_BESIDE = 8  # pixels beside a hole, whose texture is asked for
_MOST_BESIDE = 1000  # of these, evenly
_SAME_COLOR = 0.08  # sigma of a difference in color
_NEAR_BY = 8.0  # pixels from these, within which all are near
_ANY_COLOR = 0.03  # weight of texture whatever the color, against that of one pixel of the same color
_AT_ONCE = 1 << 12  # of the hole's pixels: bounds memory
_BUSY_AREA = 3.0  # sigma in pixels of what is local
_BUSY_LEAST = 0.01  # contrast of noise
_LEAST_STEP = 0.0025  # from pixel to pixel, of noise
_LEAST_WEIGHT = 1e-3  # of known pixels that a blurred value can rest on


@dataclass(frozen=True)
class Appearance:
    """What a fill should look like, roughly.

    Attributes:
        fill: its looks, such as colors, at each node; (n,C).
        weights: of the squared difference; (C,).
        photo: the looks of what may be copied, as the palette has it; (H*P,C).
        unknown: what it costs, as a squared difference of colors, to copy what cannot be compared with the rim.
    """

    fill: Tensor
    weights: Tensor
    photo: Tensor
    unknown: float = UNKNOWN


def like_rim(palette: Palette, nodes: Nodes, *, near: bool = False) -> Appearance:
    """As the rim suggests: its colors, and how busy the photo is there.

    Args:
        palette: what may be copied.
        nodes: the hole's pixels.
        near: whether the rim is near to all of them, as in a thin hole: it tells more then. What lies beside the source
            of a copy is often a hole too, as those of a mesh, and must not be cheaper than what differs.
    """
    colors = harmonic_fill(palette.image, ~palette.known)
    if near:
        return replace(_like(palette, nodes, colors, _NEAR_WEIGHT), unknown=_NEAR_UNKNOWN)
    return _like(palette, nodes, colors, _HARMONIC_WEIGHT)


def like_given(palette: Palette, nodes: Nodes, given: Tensor) -> Appearance:
    """As a fill (3,H,W) of the whole picture, and as busy as the rim."""
    filled = torch.where(palette.known, palette.image, given)
    everywhere = torch.ones_like(palette.known)[None, None].float()
    return _like(palette, nodes, _blurred(filled[None], everywhere, _SMOOTHED)[0], _GIVEN_WEIGHT)


def like_found(scene: Scene, found: Found) -> Appearance:
    """As a search found, in colors, and in texture, of which it is to have what the photo has beside the hole.

    What is smooth is found too often: more of it looks alike. Texture along rows is not that along columns: beams
    are as rough as the pillars that they lie on.

    Args:
        scene: the level that was searched.
        found: what was found in it.
    """
    palette, busy = scene.palette, _busy_of(scene.texture)
    wanted = torch.maximum(_busy_of(found.texture), _suggested(palette.image, busy, found))
    fill = torch.cat([found.colors, wanted], dim=1)
    photo = torch.cat([palette.image, busy])
    weights = torch.tensor([_FOUND_WEIGHT] * 3 + [_FOUND_BUSY_WEIGHT] * 2, dtype=torch.float32)
    return Appearance(fill, weights, palette.spread(photo).flatten(1).T.contiguous())


def _suggested(image: Tensor, busy: Tensor, found: Found) -> Tensor:
    """How busy the photo is beside the hole where it has the colors that were found, near by above all; (n,2).

    The texture of all that is beside the hole, spread evenly, would ask a sky for leaves, and a wood for the edge of
    the water beside it.

    Args:
        image: the level that was searched; (3,H,W).
        busy: how busy it is along rows and columns; (2,H,W).
        found: what was found in it.
    """
    anything = harmonic_fill(busy, found.hole)[:, found.hole].T
    beside = (dilated(found.hole, _BESIDE) & ~dilated(found.hole, 1)).nonzero()
    if not len(beside):
        return anything
    beside = beside[:: -(-len(beside) // _MOST_BESIDE)]
    (rows, columns), places = beside.T, found.hole.nonzero().float()
    colors, theirs = image[:, rows, columns].T, busy[:, rows, columns].T
    suggested = torch.empty_like(anything)
    for some in torch.split(torch.arange(len(anything)), _AT_ONCE):
        unlike = torch.cdist(found.colors[some], colors).square_()
        distance = torch.cdist(places[some], beside.float()).square_().add_(_NEAR_BY**2)
        weights = torch.exp(unlike / (-2 * _SAME_COLOR**2)) / distance
        whatever = _ANY_COLOR / distance.amin(dim=1, keepdim=True)  # where nothing beside the hole has such a color
        total = weights @ theirs + whatever * anything[some]
        suggested[some] = total / (weights.sum(dim=1, keepdim=True) + whatever)
    return suggested


def _like(palette: Palette, nodes: Nodes, colors: Tensor, weight: float) -> Appearance:
    known = palette.known[None, None].float()
    photo = torch.cat([_blurred(palette.image[None], known, _SMOOTHED), _busyness(palette.image, known)], dim=1)[0]
    fill = torch.cat([colors, harmonic_fill(photo[3:], ~palette.known)]).flatten(1)[:, nodes.at].T.contiguous()
    weights = torch.tensor([weight] * 3 + [_BUSY_WEIGHT], dtype=torch.float32)
    return Appearance(fill, weights, palette.spread(photo).flatten(1).T.contiguous())


def _busy_of(texture: Tensor) -> Tensor:
    """The logarithm of texture, the steps along rows or columns."""
    return (texture + _LEAST_STEP).log()


def _busyness(image: Tensor, known: Tensor) -> Tensor:
    """The logarithm of the local contrast; (1,1,H,W)."""
    gray = image.mean(dim=0)[None, None]
    mean = _blurred(gray, known, 1.0)
    variance = _blurred((gray - mean).square(), known, _BUSY_AREA)
    return (variance.sqrt() + _BUSY_LEAST).log()


def _blurred(x: Tensor, known: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of what is known alone; (1,C,H,W)."""
    side = 2 * round(3 * sigma) + 1
    blurred, weight = (
        gaussian_blur2d(values, (side, side), (sigma, sigma), border_type="replicate") for values in (x * known, known)
    )
    return torch.where(weight > _LEAST_WEIGHT, blurred / weight.clamp(min=_LEAST_WEIGHT), 0)
