"""Where to work at a scale: windows around the holes, so that cost follows the hole and not the photo.

The smallest scale always sees the whole photo; its composite guides the larger scales, which need only the
surroundings of each hole.
"""

from __future__ import annotations

import math
from itertools import count
from typing import TYPE_CHECKING

from refiner.regions import Window, whole

if TYPE_CHECKING:
    from collections.abc import Iterable

    from refiner.models.spec import ModelSpec
    from refiner.regions import HoleBoxes

CONTEXT = 0.25  # margin of a window, as a share of the hole's shorter side, or of the model's train size
_HARDLY_MORE = 1 / 32  # of a window's side: convolutions take as much longer, Fourier transforms a fraction of the time
_WORTH_IT = 0.8  # windows that cover more of an image than this save too little to give up its context


def scale_windows(hole: HoleBoxes, spec: ModelSpec, context: float = CONTEXT) -> tuple[Window, ...]:
    """Windows around the holes of a scale, or all of it where that is hardly more.

    Args:
        hole: where it lies.
        spec: of the model, whose train size and multiple shape the windows.
        context: margin, see `find_windows`.

    Returns:
        Windows of the scale, or of the scale with one more row and column where it has an odd number of them: a window
        is compared with the coarser scale at exactly half its size.
    """
    everything = whole(hole.size)
    found = find_windows(hole, context=context, min_side=spec.train_size, multiple=spec.multiple)
    worth_it = sum(window.area for window in found) < _WORTH_IT * everything.area
    return tuple(found) if found and worth_it else (everything,)


def find_windows(hole: HoleBoxes, *, context: float, min_side: int, multiple: int) -> list[Window]:
    """Windows that hold every hole with context around it; they do not overlap.

    Args:
        hole: where it lies.
        context: margin around a region of the hole, as a share of its shorter side.
        min_side: side in pixels that the margin is a share of where regions are smaller.
        multiple: windows start at multiples of this and of 2, and end there or at the picture's even edge. Sides
            with a large prime factor, counted in these steps, are a little longer: Fourier transforms are slow there.
    """
    step = math.lcm(multiple, 2)
    size = hole.size[0] + hole.size[0] % 2, hole.size[1] + hole.size[1] % 2
    aligned = (
        box.grown(math.ceil(context * max(min_side, min(box.size))), size).aligned(step, size) for box in hole.boxes
    )
    return merged(_transformable(window, step, size) for window in merged(aligned))


def _transformable(window: Window, step: int, size: tuple[int, int]) -> Window:
    """A window that is hardly larger, and has as many steps in rows and columns as are fast to transform."""
    top, bottom = _transformable_span(window.top, window.bottom, step, size[0])
    left, right = _transformable_span(window.left, window.right, step, size[1])
    return Window(top, left, bottom, right)


def _transformable_span(start: int, stop: int, step: int, side: int) -> tuple[int, int]:
    steps = -(-(stop - start) // step)
    more = next(more for more in count() if _has_small_factors(steps + more))
    if more > _HARDLY_MORE * steps:
        return start, stop
    after = min(more, (side - stop) // step)
    before = more - after
    if before * step > start:
        return start, stop
    return start - before * step, stop + after * step


def _has_small_factors(number: int) -> bool:
    """Whether no prime above 11 divides a number: then it divides a power of their product."""
    return pow(2 * 3 * 5 * 7 * 11, number.bit_length(), number) == 0


def merged(windows: Iterable[Window]) -> list[Window]:
    """Replace windows that overlap by the one around them, until none do."""
    disjoint: list[Window] = []
    for window in windows:
        grown = window
        while touching := [other for other in disjoint if grown.overlaps(other)]:
            disjoint = [other for other in disjoint if other not in touching]
            for other in touching:
                grown = grown.around(other)
        disjoint.append(grown)
    return sorted(disjoint, key=lambda window: (window.top, window.left))
