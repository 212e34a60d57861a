"""Filling without refinement: the network sees the parts of a photo around its holes, not all of a large photo."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from refiner.images.masks import Hole
from refiner.photo import Photo
from refiner.regions import HoleBoxes, Window, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from refiner.images.picture import Picture

_AROUND = 0.75  # of a hole's longer side that the network sees on each side of it
_WORTH = 0.7  # parts of more than this share of the photo save nothing


def parts_around(hole: Hole, least: int) -> list[Window]:
    """The parts of a photo around its holes, none of which overlap; all of it where that is hardly more.

    Args:
        hole: of the photo, with at least one pixel.
        least: pixels to see on each side of a hole, at least.
    """
    size = hole.mask.shape[0], hole.mask.shape[1]
    parts = [box.grown(max(int(_AROUND * max(box.size)), least), size) for box in HoleBoxes.of(hole.mask).boxes]
    while (pair := _overlapping(parts)) is not None:
        first, second = pair
        parts = [part for part in parts if part not in pair] + [first.around(second)]
    return parts if sum(part.area for part in parts) < _WORTH * size[0] * size[1] else [whole(size)]


def part_of(photo: Photo, part: Window) -> Photo:
    """A part of a photo, as a photo."""
    rows, columns = slice(part.top, part.bottom), slice(part.left, part.right)
    picture, hole = photo.picture, photo.hole
    alpha = None if picture.alpha is None else picture.alpha[rows, columns]
    weight = None if hole.weight is None else hole.weight[rows, columns]
    inside = replace(picture, color=np.ascontiguousarray(picture.color[rows, columns]), alpha=alpha)
    return Photo(inside, Hole(np.ascontiguousarray(hole.mask[rows, columns]), weight))


def put_back(picture: Picture, filled: Sequence[tuple[Window, Picture]]) -> Picture:
    """A picture with its parts filled."""
    color = picture.color.copy()
    for part, inside in filled:
        color[part.top : part.bottom, part.left : part.right] = inside.color
    return replace(picture, color=color)


def _overlapping(parts: list[Window]) -> tuple[Window, Window] | None:
    for number, first in enumerate(parts):
        for second in parts[number + 1 :]:
            if first.overlaps(second):
                return first, second
    return None
