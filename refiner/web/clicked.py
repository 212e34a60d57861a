"""Select an object by clicks on it: a random walk (Grady, 2006) over superpixels, cut where its border is clearest.

A walk that starts at a patch crosses borders between unlike colors rarely. For each patch, the chance that it reaches
a click with plus before one with minus, or the picture's rim, falls off at the object's outline.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import spsolve

from refiner.errors import InputError
from refiner.images.drawing import box_of
from refiner.images.screen import to_size
from refiner.web.superpixels import superpixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from refiner.images.planes import Mask, Pixels
    from refiner.web.superpixels import Superpixels

_SIDE = 360  # longer side in pixels that the walk is done at
_STEP = 7  # side of a superpixel
_LEAST = 1e-4  # chance of a step across the clearest border, so that all patches are connected
_MARGIN = 0.35  # of the object's longer side that the second, finer walk sees around it
_CUTS = np.linspace(0.04, 0.96, 47)
_SIZE = 0.22  # how much a larger object is preferred to a smaller one of as clear a border
_LIKELY = 0.5  # as likely as not
_UNSEEN = 1.5  # CIELAB: less contrast is not seen
_MOST = 0.6  # share of the picture that a first proposal may cover


@dataclass(frozen=True)
class Click:
    """A click on a picture.

    Attributes:
        x: pixels from the left.
        y: pixels from the top.
        plus: whether the object is there.
    """

    x: float
    y: float
    plus: bool = True


def clicked(pixels: Pixels, clicks: list[Click]) -> Mask:
    """The mask (h,w) of the object that clicks mark.

    Args:
        pixels: (h,w,3) in sRGB; more than 2000 to a side add nothing but time.
        clicks: on it, at least one with plus.

    Raises:
        InputError: no click has a plus.
    """
    if not any(click.plus for click in clicks):
        raise InputError("Nothing is clicked on; click on the object first.")
    found = _walked(pixels, clicks)
    box = box_of(found)
    if box is None:
        return found
    margin = int(_MARGIN * max(box[2] - box[0], box[3] - box[1])) + 2 * _STEP
    left, top, right, bottom = box_of(found, margin) or box
    if (right - left) * (bottom - top) > pixels.shape[0] * pixels.shape[1] / 2:
        return found  # the first walk was as fine
    inside = [Click(c.x - left, c.y - top, c.plus) for c in clicks if left <= c.x < right and top <= c.y < bottom]
    finer = np.zeros_like(found)
    finer[top:bottom, left:right] = _walked(pixels[top:bottom, left:right], inside, found[top:bottom, left:right])
    return finer


def _walked(pixels: Pixels, clicks: list[Click], about: Mask | None = None) -> Mask:
    """One walk; `about` is where the object was found to be before, roughly."""
    height, width = pixels.shape[:2]
    share = min(1.0, _SIDE / max(height, width))
    size = max(2, round(height * share)), max(2, round(width * share))
    cut = superpixels(to_size(pixels, size, "box"), _STEP)
    rows, columns = cut.labels.shape
    at = {
        plus: [
            cut.labels[min(int(c.y * rows / height), rows - 1), min(int(c.x * columns / width), columns - 1)]
            for c in clicks
            if c.plus is plus
        ]
        for plus in (True, False)
    }
    plus = np.unique(np.asarray(at[True], int))
    minus = np.setdiff1d(np.asarray(at[False], int), plus)
    known = np.full(len(cut.areas), np.nan)
    if about is None:
        known[np.unique(np.concatenate([cut.labels[0], cut.labels[-1], cut.labels[:, 0], cut.labels[:, -1]]))] = 0
    else:
        known = _sure(cut, about, size)
        known[minus] = 0
    known[plus] = 1
    if not (known == 0).any():
        known[np.argmin(np.where(np.isnan(known), cut.areas, cut.areas.max() + 1))] = 0
    chances = _reached(cut, known)
    object_ = _narrowed(cut, _clearest(cut, chances, plus), plus, minus) if about is None else chances > _LIKELY
    return _drawn(object_[cut.labels], plus, minus, cut, (height, width))


def _sure(cut: Superpixels, about: Mask, size: tuple[int, int]) -> NDArray[np.float64]:
    """What is certain of each patch once the object is found roughly: 1 well inside, 0 well outside."""
    covered = to_size(about, size, "nearest")
    inwards, outwards = ndimage.distance_transform_edt(covered), ndimage.distance_transform_edt(~covered)
    depth = ndimage.maximum(inwards - outwards, cut.labels, np.arange(len(cut.areas)))
    reach = max(0.25 * inwards.max(), _STEP)
    known = np.full(len(cut.areas), np.nan)
    known[depth > reach] = 1
    known[depth < -max(0.5 * reach, _STEP)] = 0
    return known


def _reached(cut: Superpixels, known: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each patch, the chance that a walk from it comes to one known as 1 before one known as 0."""
    count = len(known)
    contrasts = cut.contrasts
    usual = _usual(contrasts)
    ease = cut.lengths * (np.exp(-((contrasts / (2 * usual)) ** 2)) + _LEAST)
    first, second = cut.pairs.T
    steps = sparse.coo_matrix((ease, (first, second)), (count, count))
    both = (steps + steps.T).tocsr()
    laplacian: Any = (sparse.diags(np.asarray(both.sum(axis=0)).ravel()) - both).tocsr()
    open_ = np.flatnonzero(np.isnan(known))
    fixed = np.flatnonzero(~np.isnan(known))
    chances = np.nan_to_num(known)
    if open_.size:
        right = -laplacian[open_][:, fixed] @ known[fixed]
        chances[open_] = spsolve(laplacian[open_][:, open_].tocsc(), right)
    return chances


def _usual(contrasts: NDArray[np.float64]) -> float:
    """The contrast of a border that means nothing: of most of them, and in flat pictures what nobody sees."""
    return max(float(np.median(contrasts)) if contrasts.size else 0.0, _UNSEEN)


def _narrowed(
    cut: Superpixels, object_: NDArray[np.bool_], plus: NDArray[np.int64], minus: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """What of an object is nearer to clicks with plus, where some with minus lie in it: a walk that stays inside."""
    if not object_[minus].any():
        return object_
    known = np.where(object_, np.nan, 0)
    known[minus] = 0
    known[plus] = 1
    inside = replace(cut, lengths=np.where(object_[cut.pairs].all(axis=1), cut.lengths, 0))
    return _reached(inside, known) > _LIKELY


def _clearest(cut: Superpixels, chances: NDArray[np.float64], plus: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The object with the clearest border among those that a cut through the chances gives."""
    first, second = cut.pairs.T
    contrasts = cut.contrasts
    clear = 1 - np.exp(-((contrasts / (3 * _usual(contrasts))) ** 2))
    ranked = np.empty_like(chances)
    ranked[np.argsort(chances)] = np.linspace(0, 1, len(chances))  # evenly spread, as most chances are tiny
    total, best = cut.areas.sum(), -1.0
    object_: NDArray[np.bool_] = chances >= chances[plus].min()
    for at in _CUTS:
        inside = ranked >= min(at, ranked[plus].min())
        _, parts = csgraph.connected_components(
            sparse.coo_matrix(
                (np.ones(int((inside[first] & inside[second]).sum())), cut.pairs[inside[first] & inside[second]].T),
                (len(inside), len(inside)),
            ),
            directed=False,
        )
        inside &= np.isin(parts, parts[plus])
        border = inside[first] != inside[second]
        share = cut.areas[inside].sum() / total
        if not border.any() or share > _MOST:
            continue
        score = float((clear[border] * cut.lengths[border]).sum() / cut.lengths[border].sum()) * share**_SIZE
        if score > best:
            best, object_ = score, inside
    return object_


def _drawn(
    found: Mask, plus: NDArray[np.int64], minus: NDArray[np.int64], cut: Superpixels, size: tuple[int, int]
) -> Mask:
    """The parts that were clicked on, with a smooth outline, at a picture's height and width; holes for minus alone."""
    parts, _ = ndimage.label(found)
    touched = np.unique(parts[np.isin(cut.labels, plus) & found])
    clicked_on = np.isin(parts, touched[touched > 0])
    whole = ndimage.binary_fill_holes(clicked_on)
    holes, _ = ndimage.label(whole & ~clicked_on)
    asked = np.unique(holes[np.isin(cut.labels, minus)])
    whole &= ~np.isin(holes, asked[asked > 0])
    smooth = ndimage.gaussian_filter(whole.astype(np.float32), 1.0)
    return np.asarray(to_size(smooth, size, "cubic") > 0.5)  # noqa: PLR2004  half covered
