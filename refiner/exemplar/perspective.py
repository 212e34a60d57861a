"""Where a photo shrinks toward: the points that lines, or the whole scene, run to.

What lies nearer on a path, a wall or a street is the same again, larger, seen from the point that its edges run to:
shrunk about it, it goes on without a break. So in perspective a copy is taken from a smaller copy of the photo, at the
one shift that leaves that point where it is.

Sources: Burns, Hanson and Riseman, "Extracting Straight Lines", PAMI 1986 (lines are regions of one gradient
direction); Huang et al., "Image Completion Using Planar Structure Guidance", SIGGRAPH 2014 (copies along the lines that
meet in a vanishing point).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy.ndimage import binary_dilation, gaussian_filter, label
from torch.nn import functional

from refiner.exemplar.views import MIRROR, SCALED
from refiner.interruption import breathe

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from refiner.exemplar.palette import Palette

SCALES = (0.84, 0.7, 0.59, 0.5, 0.42, 0.35, 0.3)  # of smaller copies

_LEAST_SIDE, _MOST_PIXELS = 48, 300_000  # of a picture in which a point is looked for: bounds memory
_ANOTHER = 4.0  # pixels between two points that are not one
_SIDE = 72  # short side in pixels at which a scene is compared with itself
_COMPARED = (0.5, 0.6, 0.7)  # sizes that it is compared at
_GRID = 48  # places along each side, at which it may shrink toward
_ALIKE = 0.5  # of what other places have, for a scene to count as running to one
_LEAST_KNOWN = 0.9
_LEAST_SHARED = 0.3  # of a shrunk picture, that has to lie on something known for the two to be compared
_LEAST_UNLIKE = 1e-4  # squared, of one place with another: less is a flat picture

_BINS = 16  # of directions of the gradient
_BLUR = 0.8  # pixels
_LEAST_STEP = 0.02  # from pixel to pixel, of a line's edge
_SHORTEST, _THICKEST = 10.0, 5.0  # pixels of a line
_SLIMNESS = 0.25
_FEWEST_LINES, _MOST_LINES = 12, 800
_BESIDE = 0.45  # of a line's length, from its middle: what is nearer lies on it
_REFINED = (6.0, 3.0, 1.5)  # pixels around the best crossing, in which better points are drawn
_DRAWN = 60
_PAIRS = 1500  # of lines, whose crossings are tried
_BEYOND = 0.3  # of the picture's sides: how far outside a point may lie
_LEAST_ANGLE = 6.0  # degrees between lines that tell where they cross
_TOLERANCE = 1.5  # degrees
_SECTORS = 72  # around a point: lines on many sides tell more than many on one
_SECTOR_CAP = 0.15  # of the picture's height, that the lines of one sector count for at most
_CONVINCING = 1.2  # of the picture's height in lines that run to a point, beyond chance


class Straight(NamedTuple):
    """Offsets that keep a vanishing point in place.

    Attributes:
        palette: has the smaller copies that they are for.
        offsets: (K,2); 0 of them where the picture runs to no point.
        views: the number of the view that each is for, (K,): in others it would shrink about another point.
    """

    palette: Palette
    offsets: Tensor
    views: Tensor


def offsets_in_perspective(palette: Palette) -> Straight:
    """Offsets into smaller copies of the photo, and to its other side, that keep a vanishing point in place.

    Args:
        palette: the photo and its mirror image.
    """
    image, hole = palette.image, ~palette.known
    points: list[tuple[float, float]] = []
    if min(hole.shape) >= _LEAST_SIDE and hole.numel() <= _MOST_PIXELS:
        for find in (_of_lines, _of_scene):
            breathe()
            point = find(image, hole)
            if point is not None and all(math.dist(point, other) > _ANOTHER for other in points):
                points.append(point)
    if not points:
        return Straight(palette, torch.zeros(0, 2, dtype=torch.long), torch.zeros(0, dtype=torch.long))
    wider = palette.beside(palette.views.with_scaled(SCALES))
    offsets, views = [], []
    for y, x in points:
        for number, (start, scale) in enumerate(wider.views.scaled):
            offsets.append([round((scale - 1) * y), start + round((scale - 1) * x)])
            views.append(SCALED + number)
        assert wider.views.mirror is not None  # noqa: S101  given with the palette
        offsets.append([0, 2 * wider.views.mirror - round(2 * x)])  # a corridor's other side
        views.append(MIRROR)
    return Straight(wider, torch.tensor(offsets), torch.tensor(views))


def _of_scene(image: Tensor, hole: Tensor) -> tuple[float, float] | None:
    """The point about which the scene shrunk is most like itself; None where it is not.

    Rows and columns from the picture's edge: its first pixel lies between 0 and 1.

    Args:
        image: (3,H,W).
        hole: (H,W), bool.
    """
    height, width = hole.shape
    factor = min(_SIDE / min(height, width), 1)
    size = max(round(height * factor), 1), max(round(width * factor), 1)
    known = (~hole)[None].to(image)
    total, share = (functional.adaptive_avg_pool2d(each, size) for each in (image * known, known))
    small, known = total / share.clamp(min=1e-3), (share > _LEAST_KNOWN).to(image)
    small = (small - (small * known).mean(dim=(1, 2), keepdim=True) / known.mean().clamp(min=1e-3)) * known
    unlike = torch.stack([_unlikeness(small, known, scale) for scale in _COMPARED]).mean(dim=0)
    least = float(unlike.min())
    if not least < _ALIKE:
        return None
    row, column = divmod(int(unlike.argmin()), _GRID)
    return height * row / (_GRID - 1), width * column / (_GRID - 1)


def _unlikeness(picture: Tensor, known: Tensor, scale: float) -> Tensor:
    """How far a picture is from itself, shrunk about each of a grid of places; over the median, (48,48)."""
    smaller, weight = (
        functional.interpolate(
            each[None], scale_factor=scale, mode="bilinear", antialias=True, recompute_scale_factor=False
        )[0]
        for each in (picture, known)
    )
    weight = (weight > _LEAST_KNOWN).to(picture)
    (height, width), (low, narrow) = known.shape[1:], weight.shape[1:]

    def correlated(small: Tensor, large: Tensor) -> Tensor:
        spectra = (torch.fft.rfft2(each, s=(height, width)) for each in (small, large))
        product = next(spectra).conj() * next(spectra)
        placed: Tensor = torch.fft.irfft2(product, s=(height, width))
        return placed[:, : height - low + 1, : width - narrow + 1]

    shared = correlated(weight, known)
    squares = correlated((smaller.square().sum(dim=0, keepdim=True) * weight), known)
    squares += correlated(weight, picture.square().sum(dim=0, keepdim=True))
    squares -= 2 * correlated(smaller * weight, picture).sum(dim=0, keepdim=True)
    unlike = squares.clamp(min=0) / shared.clamp(min=1)
    compared = unlike[shared > _LEAST_SHARED * low * narrow]
    if not len(compared) or compared.median() < _LEAST_UNLIKE:
        return torch.ones(_GRID, _GRID)
    unlike = torch.where(shared > _LEAST_SHARED * low * narrow, unlike, compared.max()) / compared.median()
    return functional.interpolate(unlike[None], size=(_GRID, _GRID), mode="bilinear", align_corners=True)[0, 0]


def _of_lines(image: Tensor, hole: Tensor) -> tuple[float, float] | None:
    """The point that most lines run to, row and column as above; None where hardly more do than by chance.

    Args:
        image: (3,H,W).
        hole: (H,W), bool.
    """
    height, width = hole.shape
    lines = _lines((image * ~hole).movedim(0, 2).numpy(), hole.numpy())
    random = np.random.default_rng(0)
    if len(lines) < _FEWEST_LINES:
        return None
    middle, along, length = lines[:, :2], lines[:, 2:4], lines[:, 4]
    one, other = random.choice(len(lines), (2, 4 * _PAIRS), p=length / length.sum())
    sine = _cross(along[one], along[other])
    apart = np.abs(sine) > np.sin(np.radians(_LEAST_ANGLE))
    one, other, sine = one[apart], other[apart], sine[apart]
    distance = _cross(middle[other] - middle[one], along[other]) / sine
    points = middle[one] + distance[:, None] * along[one]
    size = np.array([width, height])
    points = points[((points > -_BEYOND * size) & (points < (1 + _BEYOND) * size)).all(axis=1)][:_PAIRS]
    if not len(points):
        return None
    best = points[np.argmax(np.concatenate([_support(some, lines, height) for some in np.array_split(points, 16)]))]
    for spread in _REFINED:  # a crossing of two lines is not the one of all
        points = np.concatenate([best[None], best + random.normal(scale=spread, size=(_DRAWN, 2))])
        best = points[np.argmax(_support(points, lines, height))]
    if _support(best[None], lines, height)[0] < _CONVINCING:
        return None
    return float(best[1]) + 0.5, float(best[0]) + 0.5


def _support(points: NDArray[np.float64], lines: NDArray[np.float64], height: int) -> NDArray[np.float64]:
    """How much of the lines runs to each point (k,2), beyond chance and in terms of the picture's height; (k,)."""
    to = lines[None, :, :2] - points[:, None]
    distance = np.hypot(to[..., 0], to[..., 1]) + 1e-6
    sine = np.abs(_cross(to, lines[None, :, 2:4])) / distance
    length = lines[None, :, 4]
    meets = np.clip(1 - (sine / (2 * np.sin(np.radians(_TOLERANCE)))) ** 2, 0, 1) * (distance > _BESIDE * length)
    sector = ((np.arctan2(to[..., 1], to[..., 0]) / (2 * np.pi) + 0.5) * _SECTORS).astype(int).clip(0, _SECTORS - 1)
    at = (np.arange(len(points))[:, None] * _SECTORS + sector).ravel()
    meeting, all_there = (
        np.bincount(at, weights.ravel(), len(points) * _SECTORS).reshape(-1, _SECTORS)
        for weights in (meets * length, np.broadcast_to(length, sector.shape))
    )
    by_chance = 16 / 3 * _TOLERANCE / 180 * all_there  # twice what meets at random
    support: NDArray[np.float64] = np.clip((meeting - by_chance) / height, 0, _SECTOR_CAP).sum(axis=1)
    return support


def _lines(image: NDArray[np.float32], hole: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Straight edges of a picture (H,W,3): middle x and y, direction x and y, and length in pixels; (n,5)."""
    smooth = gaussian_filter(image, (_BLUR, _BLUR, 0))
    down, right = np.gradient(smooth, axis=(0, 1))
    size = np.hypot(right, down)
    strongest = size.argmax(axis=2)[..., None]
    down, right, size = (np.take_along_axis(each, strongest, 2)[..., 0] for each in (down, right, size))
    direction = np.arctan2(down, right) / (2 * np.pi) * _BINS
    border = 3
    clear = ~binary_dilation(hole, iterations=border) & (size > _LEAST_STEP)
    clear[:border] = clear[-border:] = clear[:, :border] = clear[:, -border:] = False
    found = np.concatenate([_regions(direction + shift, size, clear) for shift in (0, 0.5)])
    found = found[np.argsort(-found[:, 4], kind="stable")][:_MOST_LINES]
    # Both ways of cutting directions into bins find most lines: of two that lie on each other the longer one stays.
    apart = found[:, None, :2] - found[None, :, :2]
    beside, on = np.abs(_cross(apart, found[None, :, 2:4])), np.abs((apart * found[None, :, 2:4]).sum(axis=2))
    parallel = np.abs(_cross(found[:, None, 2:4], found[None, :, 2:4])) < 0.1  # noqa: PLR2004  sine of 6 degrees
    double = (beside < 1.5) & (on < found[None, :, 4] / 2) & parallel & np.tri(len(found), k=-1, dtype=bool)  # noqa: PLR2004
    lines: NDArray[np.float64] = found[~double.any(axis=1)]
    return lines


def _regions(
    direction: NDArray[np.float64], size: NDArray[np.float64], clear: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Connected regions of one direction, in bins, that are long and thin, as lines; (n,5)."""
    bins = np.floor(direction % _BINS).astype(int)
    labels, count = np.zeros(bins.shape, int), 0
    for each in range(_BINS):
        some, more = label((bins == each) & clear, structure=np.ones((3, 3)))
        labels[some > 0] = some[some > 0] + count
        count += more
    at = labels.ravel().nonzero()[0]
    of, weight = labels.ravel()[at] - 1, size.ravel()[at]
    total = np.bincount(of, weight, count)
    y, x = (each.astype(float) for each in np.divmod(at, bins.shape[1]))
    middle_x, middle_y = (np.bincount(of, weight * each, count) / total for each in (x, y))
    x, y = x - middle_x[of], y - middle_y[of]
    xx, yy, xy = (np.bincount(of, weight * each, count) / total for each in (x * x, y * y, x * y))
    spread = np.hypot(xx - yy, 2 * xy)
    length, thickness = (np.sqrt(6 * np.maximum(each, 0)) for each in (xx + yy + spread, xx + yy - spread))
    angle = np.arctan2(2 * xy, xx - yy) / 2
    found: NDArray[np.float64] = np.stack([middle_x, middle_y, np.cos(angle), np.sin(angle), length], axis=1)
    long: NDArray[np.float64] = found[(length > _SHORTEST) & (thickness < _SLIMNESS * length) & (thickness < _THICKEST)]
    return long


def _cross(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0])
