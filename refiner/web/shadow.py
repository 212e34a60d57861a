"""Grow a mask to the shadow: the darker area attached to it, of the color of its surroundings but less light."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse import csgraph

from refiner.errors import InputError
from refiner.images.drawing import box_of
from refiner.images.screen import to_size
from refiner.web.superpixels import superpixels

if TYPE_CHECKING:
    from refiner.images.planes import Mask, Pixels

_SIDE = 360  # longer side in pixels that shadows are looked for at
_STEP = 5  # side of a superpixel
_REACH = 1.2  # how far a shadow may reach, as a share of the mask's longer side
_ALIKE = 14.0  # CIELAB: patches whose hues differ by less can be of one ground, lit and not
_DARKER = 0.12  # by which share a shadow is darker than the lit ground, at least
_LIT = 0.7  # the lit ground is as light as this share of the patches of its hue is at most
_LARGEST = 1.0  # a shadow is no larger than this many times its object
_COMPARED = 400  # patches that each is compared with


def with_shadow(pixels: Pixels, mask: Mask) -> Mask:
    """The mask (h,w) with the shadow beside it.

    Args:
        pixels: (h,w,3) in sRGB.
        mask: (h,w), true on the object.

    Raises:
        InputError: nothing is marked, or there is no shadow beside it.
    """
    tight = box_of(mask)
    if tight is None:
        raise InputError("Nothing is marked; paint over the object first.")
    reach = int(_REACH * max(tight[2] - tight[0], tight[3] - tight[1])) + 2 * _STEP
    left, top, right, bottom = box_of(mask, reach) or tight
    part = slice(top, bottom), slice(left, right)
    height, width = bottom - top, right - left
    share = min(1.0, _SIDE / max(height, width))
    size = max(2, round(height * share)), max(2, round(width * share))
    found = _dark_beside(to_size(pixels[part], size, "box"), to_size(mask[part], size, "nearest"))
    if not found.any():
        raise InputError("There is no darker area beside what is painted; paint over the shadow instead.")
    smooth = ndimage.gaussian_filter(found.astype(np.float32), 1.5)
    grown: Mask = mask.copy()
    grown[part] |= to_size(smooth, (height, width), "cubic") > 0.4  # noqa: PLR2004  soft rims are shadow too
    return grown


def _dark_beside(pixels: Pixels, mask: Mask) -> Mask:
    """The shadow (h,w) beside a mask (h,w), without the mask."""
    cut = superpixels(pixels, _STEP)
    count = len(cut.areas)
    own = ndimage.mean(mask, cut.labels, np.arange(count)) > 0.5  # noqa: PLR2004  half covered
    light, hues = cut.colors[:, 0], cut.colors[:, 1:]
    outside = np.flatnonzero(~own)
    if not outside.size:
        return np.zeros_like(mask)
    ground = outside[:: len(outside) // _COMPARED + 1]
    ground = ground[np.argsort(light[ground])]
    alike = (np.linalg.norm(hues[:, None] - hues[ground][None], axis=2) < _ALIKE).cumsum(axis=1)
    lit = light[ground][(alike >= _LIT * alike[:, -1:]).argmax(axis=1)]
    dark = ~own & (light < (1 - _DARKER) * lit)
    first, second = cut.pairs.T
    inside = dark[first] & dark[second]
    links = sparse.coo_matrix((np.ones(int(inside.sum())), cut.pairs[inside].T), (count, count))
    _, parts = csgraph.connected_components(links, directed=False)
    beside = np.union1d(parts[first[own[second]]], parts[second[own[first]]])
    # Dark water or woods behind an object are no shadow of it.
    fitting = np.bincount(parts, cut.areas * dark) <= _LARGEST * cut.areas[own].sum()
    shadow: Mask = (dark & np.isin(parts, beside) & fitting[parts])[cut.labels] & ~mask
    opened = ndimage.binary_opening(shadow | mask, iterations=2)
    return np.asarray(opened & ~mask)
