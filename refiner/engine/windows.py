"""Where to work at a scale: windows around the holes, so that cost follows the hole and not the photo.

The smallest scale always sees the whole photo; its composite guides the larger scales, which need only the
surroundings of each hole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from refiner.regions import Window, whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from refiner.models.spec import ModelSpec
    from refiner.regions import HoleBoxes
    from refiner.settings import Windows

CONTEXT = 0.25  # margin of a window, as a share of the hole's shorter side, or of the model's train size
_CUT_SAVES = 0.8  # two windows that cover more of the area of one save too little for a blend between them
_BLEND = 32.0  # pixels, in depth within its window, over which one window's fill turns into another's
_WORTH_IT = 0.8  # windows that cover more of an image than this save too little to give up its context


def scale_windows(boxes: HoleBoxes, spec: ModelSpec, windows: Windows, context: float = CONTEXT) -> tuple[Window, ...]:
    """Windows around the holes of a scale, or all of it where that is hardly more.

    Args:
        boxes: of the hole.
        spec: of the model, whose train size and multiple shape the windows.
        windows: the setting.
        context: margin, see `find_windows`.

    Returns:
        Windows of the scale, or of the scale with one more row and column where it has an odd number of them: a window
        is compared with the coarser scale at exactly half its size.
    """
    everything = whole(boxes.size)
    if windows == "off":
        return (everything,)
    found = find_windows(
        boxes, context=context, min_side=spec.train_size, multiple=spec.multiple, cut=windows == "split"
    )
    worth_it = sum(window.area for window in found) < _WORTH_IT * everything.area
    return tuple(found) if found and worth_it else (everything,)


def find_windows(boxes: HoleBoxes, *, context: float, min_side: int, multiple: int, cut: bool = False) -> list[Window]:
    """Windows that hold every hole with context around it; they do not overlap unless holes are cut.

    Args:
        boxes: of the hole.
        context: margin around a region of the hole, as a share of its shorter side.
        min_side: side in pixels that the margin is a share of where regions are smaller.
        multiple: windows start at multiples of this and of 2, and end there or at the picture's even edge.
        cut: whether a long or branched hole is cut, where several windows cover clearly less than one; these overlap,
            so that each pixel of the hole has its margin in one of them.

    Returns:
        The windows; none where there is no hole.
    """
    height, width = boxes.size
    frame = _Frame(context, min_side, math.lcm(multiple, 2), (height + height % 2, width + width % 2))
    windows = merged(frame.around(box) for box in boxes.windows())
    if not cut:
        return windows
    parts = []
    for window in windows:
        starts = boxes.cells[:, :2]
        inside = (starts >= (window.top, window.left)).all(axis=1) & (starts < (window.bottom, window.right)).all(
            axis=1
        )
        parts += _cut(boxes.cells[inside], window, frame)
    return parts


def blend_weights(windows: Sequence[Window], index: int, size: tuple[int, int]) -> Tensor:
    """How much of a window's pixels is its own where it is drawn over the windows before it.

    A pixel belongs to the window in which it lies deepest; where it lies about as deep in others, they are blended.

    Args:
        windows: in the order they are drawn.
        index: of the window drawn now.
        size: the picture's height and width.

    Returns:
        (h,w) of the window, in [0,1]; 1 where no window before it has a share.
    """
    window = windows[index]
    rows, columns = torch.arange(window.top, window.bottom), torch.arange(window.left, window.right)
    near = [i for i, other in enumerate(windows) if window.overlaps(other)]
    depths = torch.stack([depth_in(windows[i], rows, columns, size) for i in near])
    behind = (depths.amax(dim=0) - depths).nan_to_num(0)  # of two windows that both reach the picture's edges: 0
    weights = (1 - behind / _BLEND).clamp(min=0) * (depths > 0)
    drawn = weights[[i for i, number in enumerate(near) if number <= index]].sum(dim=0)
    return torch.where(drawn > 0, weights[near.index(index)] / drawn.clamp(min=1e-6), 0)


def depth_in(window: Window, rows: Tensor, columns: Tensor, size: tuple[int, int]) -> Tensor:
    """How deep pixels lie within a window, in pixels; 0 outside it. The picture's own edges do not count.

    Args:
        window: of the picture.
        rows: (h,).
        columns: (w,).
        size: the picture's height and width.

    Returns:
        (h,w), float32.
    """

    def along(places: Tensor, start: int, stop: int, side: int) -> Tensor:
        far = math.inf
        before = places - (start - 1) if start > 0 else torch.where(places >= 0, far, 0)
        after = stop - places if stop < side else torch.where(places < side, far, 0)
        return torch.minimum(before.float(), after.float()).clamp(min=0)

    down = along(rows, window.top, window.bottom, size[0])
    across = along(columns, window.left, window.right, size[1])
    return torch.minimum(down[:, None], across[None, :])


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


@dataclass(frozen=True)
class _Frame:
    """How a window is laid around a box; of one picture."""

    context: float
    min_side: int
    step: int
    size: tuple[int, int]

    def around(self, box: Window) -> Window:
        """The box with its margin, at multiples of the step."""
        top, left, bottom, right = self.edges(box.top, box.left, box.bottom, box.right)
        return Window(int(top), int(left), int(bottom), int(right))

    def edges(self, top: Any, left: Any, bottom: Any, right: Any) -> tuple[Any, Any, Any, Any]:
        """The same for numbers or arrays."""
        shorter = np.minimum(bottom - top, right - left)
        margin = np.ceil(self.context * np.maximum(self.min_side, shorter)).astype(int)
        return (
            np.maximum((top - margin) // self.step * self.step, 0),
            np.maximum((left - margin) // self.step * self.step, 0),
            np.minimum(-(-(bottom + margin) // self.step) * self.step, self.size[0]),
            np.minimum(-(-(right + margin) // self.step) * self.step, self.size[1]),
        )


def _cut(cells: NDArray[np.int64], window: Window, frame: _Frame) -> list[Window]:
    """A window around boxes (k,4), or smaller ones around parts of them, divided again and again along an axis."""
    if len(cells) <= 1:
        return [window]
    area, place, axis = min((*_best_cut(cells, frame, axis), axis) for axis in (0, 1))
    if area > _CUT_SAVES * window.area:
        return [window]
    ordered = cells[np.argsort(cells[:, axis], kind="stable")]
    sides = ordered[:place], ordered[place:]
    return [found for side in sides for found in _cut(side, frame.around(_box_around(side)), frame)]


def _best_cut(cells: NDArray[np.int64], frame: _Frame, axis: int) -> tuple[int, int]:
    """The least area of two windows that hold the boxes in their order along an axis, and how many the first holds."""
    ordered = cells[np.argsort(cells[:, axis], kind="stable")]
    before = [reduce.accumulate(ordered[:, i])[:-1] for i, reduce in enumerate(_AROUND)]
    behind = [reduce.accumulate(ordered[::-1, i])[::-1][1:] for i, reduce in enumerate(_AROUND)]
    areas = sum(_area(*frame.edges(*side)) for side in (before, behind))
    best = int(np.argmin(areas))
    return int(areas[best]), best + 1


_AROUND = (np.minimum, np.minimum, np.maximum, np.maximum)  # top, left, bottom and right of what is around boxes


def _box_around(cells: NDArray[np.int64]) -> Window:
    return Window(*(int(reduce.reduce(cells[:, i])) for i, reduce in enumerate(_AROUND)))


def _area(top: Any, left: Any, bottom: Any, right: Any) -> Any:
    return (bottom - top) * (right - left)
