"""What a fill should look like, roughly: as a given one does, as a search of patches found, or as the rim suggests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from refiner.exemplar.laplace import harmonic_fill
from refiner.regions import dilated

if TYPE_CHECKING:
    from refiner.exemplar.nodes import Nodes
    from refiner.exemplar.palette import Palette
    from refiner.exemplar.patches import Found, Scene

_SMOOTHED = 1.5  # sigma in pixels at the smallest level of what colors are compared by
_SUGGESTED_WEIGHT = 0.25  # of the colors that the rim suggests
# That a pixel costs for them: they may be wrong, and must not outweigh a copy that fits all around.
_SUGGESTED_MOST = 0.03
# The same where an edge goes on from rim to rim, which is seldom wrong, and which copies must not bend.
_LINE_WEIGHT, _LINE_MOST = 1.0, 0.2
_NEAR_WEIGHT = 2.0  # where it is near
UNKNOWN = 0.06  # squared difference where one of the two may not be copied
_NEAR_UNKNOWN = 0.2
_GIVEN_WEIGHT = 2.0  # of the colors of a fill that is to be followed
_FOUND_WEIGHT = 0.5  # of the colors that a search found, which are not smoothed
_BUSY_WEIGHT = 0.1  # of how busy the photo is
_FOUND_BUSY_WEIGHT = 0.5
_BESIDE = 8  # pixels beside a hole, whose texture is asked for
_MOST_BESIDE = 500  # of these, evenly
_SAME_COLOR = 0.08  # sigma of a difference in color
_NEAR_BY = 8.0  # pixels from these, within which all are near
_ANY_COLOR = 0.03  # weight of texture whatever the color, against that of one pixel of the same color
_CALM = 0.5  # of the way from the texture that was found to that beside the hole, in the logarithm
_CELL = 4  # pixels, over which it is the same what lies beside the hole whatever the color
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
        trust: how much more colors weigh at each node; (n,). None for no more anywhere.
        most: that they cost there, weighted; (n,). None for no limit.
    """

    fill: Tensor
    weights: Tensor
    photo: Tensor
    unknown: float = UNKNOWN
    trust: Tensor | None = None
    most: Tensor | None = None


def like_rim(palette: Palette, nodes: Nodes, *, near: bool = False, lines: bool = True) -> Appearance:
    """As the rim suggests: its colors, and how busy the photo is there.

    Args:
        palette: what may be copied.
        nodes: the hole's pixels.
        near: whether the rim is near to all of them, as in a thin hole: it tells more then. What lies beside the source
            of a copy is often a hole too, as those of a mesh, and must not be cheaper than what differs.
        lines: whether edges that go on from rim to rim count more than other colors.
    """
    if near:
        return replace(_like(palette, nodes, palette.suggested.image, _NEAR_WEIGHT), unknown=_NEAR_UNKNOWN)
    wanted = _like(palette, nodes, palette.suggested.image, _SUGGESTED_WEIGHT)
    lined = palette.suggested.lines.flatten()[nodes.at] & lines
    trust = torch.where(lined, _LINE_WEIGHT / _SUGGESTED_WEIGHT, 1.0)
    return replace(wanted, trust=trust, most=torch.where(lined, _LINE_MOST, _SUGGESTED_MOST))


def like_given(palette: Palette, nodes: Nodes, given: Tensor) -> Appearance:
    """As a fill (3,H,W) of the whole picture, and as busy as the rim."""
    filled = torch.where(palette.known, palette.image, given)
    everywhere = torch.ones_like(palette.known)[None, None].float()
    return _like(palette, nodes, _blurred(filled[None], everywhere, _SMOOTHED)[0], _GIVEN_WEIGHT)


def like_found(scene: Scene, found: Found, calmer: Tensor) -> Appearance:
    """As a search found, in colors, and in texture, of which it is to have what the photo has beside the hole.

    What is smooth is found too often: more of it looks alike. Texture along rows is not that along columns: beams
    are as rough as the pillars that they lie on.

    Args:
        scene: the level that was searched.
        found: what was found in it.
        calmer: where it is to be calmer: halfway, in the logarithm, to the texture that was found; (n,), bool.
    """
    palette, busy, theirs = scene.palette, _busy_of(scene.texture), _busy_of(found.texture)
    wanted = torch.maximum(theirs, _suggested(palette.image, busy, found))
    wanted = torch.where(calmer[:, None], torch.lerp(theirs, wanted, _CALM), wanted)
    fill = torch.cat([found.colors, wanted], dim=1)
    photo = torch.cat([palette.image, busy])
    weights = torch.tensor([_FOUND_WEIGHT] * 3 + [_FOUND_BUSY_WEIGHT] * 2, dtype=torch.float32)
    return Appearance(fill, weights, palette.spread(photo).flatten(1).T.contiguous())


def along_lines(wanted: Appearance, palette: Palette, nodes: Nodes) -> Appearance:
    """As a search found, see `like_found`, but where edges go on from rim to rim, which it does not know of.

    Args:
        wanted: as the search found.
        palette: what may be copied.
        nodes: the hole's pixels.
    """
    suggested = palette.suggested
    lined = suggested.lines.flatten()[nodes.at]
    if not lined.any():
        return wanted
    fill = wanted.fill.clone()
    fill[lined, :3] = suggested.image.flatten(1)[:, nodes.at[lined]].T
    trust = torch.where(lined, _LINE_WEIGHT / _FOUND_WEIGHT, 1.0)
    return replace(wanted, fill=fill, trust=trust, most=torch.where(lined, _LINE_MOST, torch.inf))


def _suggested(image: Tensor, busy: Tensor, found: Found) -> Tensor:
    """How busy the photo is beside the hole where it has the colors that were found, near by above all; (n,2).

    The texture of all that is beside the hole, spread evenly, would ask a sky for leaves, and a wood for the edge of
    the water beside it.

    Args:
        image: the level that was searched; (3,H,W).
        busy: how busy it is along rows and columns; (2,H,W).
        found: what was found in it.
    """
    anything = _spread_inward(busy, found.hole)
    beside = (dilated(found.hole, _BESIDE) & ~dilated(found.hole, 1)).nonzero()
    if not len(beside):
        return anything
    beside = beside[:: -(-len(beside) // _MOST_BESIDE)]
    (rows, columns), places = beside.T, found.hole.nonzero().float()
    colors, theirs = image[:, rows, columns].T, busy[:, rows, columns].T
    suggested = torch.empty_like(anything)
    for some in torch.split(torch.arange(len(anything)), _AT_ONCE):
        unlike = _squared_distances(found.colors[some], colors)
        distance = _squared_distances(places[some], beside.float()).add_(_NEAR_BY**2)
        weights = unlike.mul_(-0.5 / _SAME_COLOR**2).exp_().div_(distance)
        whatever = _ANY_COLOR / distance.amin(dim=1, keepdim=True)  # where nothing beside the hole has such a color
        total = weights @ theirs + whatever * anything[some]
        suggested[some] = total / (weights.sum(dim=1, keepdim=True) + whatever)
    return suggested


def _spread_inward(busy: Tensor, hole: Tensor) -> Tensor:
    """How busy the rim is, spread evenly over the hole, in cells of some pixels; (n,2)."""
    rows, columns = (torch.arange(side) // _CELL for side in hole.shape)
    known = (~hole).to(busy)[None]
    total, share = (functional.avg_pool2d(each, _CELL, ceil_mode=True) for each in (busy * known, known))
    cells = harmonic_fill(total / share.clamp(min=_LEAST_WEIGHT), share[0] == 0)
    return cells[:, rows[:, None], columns][:, hole].T


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Between all of (n,C) and all of (m,C); (n,m)."""
    middle = b.mean(dim=0)  # near 0, differences of squares lose few digits
    a, b = a - middle, b - middle
    found: Tensor = torch.addmm(b.square().sum(dim=1)[None], a, b.T, alpha=-2).add_(a.square().sum(dim=1, keepdim=True))
    return found.clamp_(min=0)


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
    blurred, weight = (_blur(values, sigma) for values in (x * known, known))
    return torch.where(weight > _LEAST_WEIGHT, blurred / weight.clamp(min=_LEAST_WEIGHT), 0)


def _blur(x: Tensor, sigma: float) -> Tensor:
    blurred: Any = gaussian_filter(x.numpy(), (0, 0, sigma, sigma), mode="nearest", truncate=round(3 * sigma) / sigma)
    return torch.from_numpy(blurred)
