"""Where to work at a scale: windows around the holes, so that cost follows the hole and not the photo.

The smallest scale always sees the whole photo; what it found guides the larger scales, which need only the
surroundings of each hole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from refiner.models.spec import ModelSpec
    from refiner.settings import Windows

_WORTH_IT = 0.8  # windows that cover more of an image than this save too little to give up its context
_CELL = 32  # holes nearer than this, in pixels, are found as one


@dataclass(frozen=True)
class Window:
    """A rectangle of a picture: rows from `top` up to `bottom`, columns from `left` up to `right`."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    @property
    def area(self) -> int:
        """Pixels."""
        return self.size[0] * self.size[1]

    def of(self, picture: Tensor) -> Tensor:
        """This part of (..., H, W)."""
        return picture[..., self.top : self.bottom, self.left : self.right]

    def halved(self) -> Window:
        """The same part of the picture at half the size; where the window starts at even pixels."""
        return Window(self.top // 2, self.left // 2, self.bottom // 2, self.right // 2)


def whole(picture: Tensor) -> Window:
    """The window that is all of (..., H, W)."""
    return Window(0, 0, picture.shape[-2], picture.shape[-1])


def scale_windows(hole: Tensor, spec: ModelSpec, windows: Windows, context: float) -> tuple[Window, ...]:
    """Windows around the holes of a scale, or all of it where that is hardly more.

    Args:
        hole: (N,1,H,W), bool.
        spec: of the model, whose train size and multiple shape the windows.
        windows: the setting.
        context: margin, see `find_windows`.
    """
    everything = whole(hole)
    if windows == "off":
        return (everything,)
    found = find_windows(hole, context=context, min_side=spec.train_size, multiple=spec.multiple)
    worth_it = sum(window.area for window in found) < _WORTH_IT * everything.area
    return tuple(found) if found and worth_it else (everything,)


def find_windows(hole: Tensor, *, context: float, min_side: int, multiple: int) -> list[Window]:
    """Windows that hold every hole with context around it; they do not overlap.

    Args:
        hole: (N,1,H,W), bool; the holes of a batch are taken together.
        context: margin around a hole, as a share of its shorter side.
        min_side: side in pixels that the margin is a share of where holes are smaller.
        multiple: windows start at multiples of this and of 2, and end there or at the picture's edge.

    Returns:
        The windows; none where there is no hole.
    """
    flat = hole.any(dim=0)[0].cpu().numpy()
    step = math.lcm(multiple, 2)
    windows = []
    for box in _boxes(flat):
        margin = math.ceil(context * max(min_side, min(box.size)))
        windows.append(
            Window(
                max((box.top - margin) // step * step, 0),
                max((box.left - margin) // step * step, 0),
                min(-(-(box.bottom + margin) // step) * step, flat.shape[0]),
                min(-(-(box.right + margin) // step) * step, flat.shape[1]),
            )
        )
    return _merged(windows)


def _boxes(hole: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> list[Window]:
    """Bounding boxes of the holes, those nearer than a cell taken together."""
    height, width = hole.shape
    padded = np.pad(hole, ((0, -height % _CELL), (0, -width % _CELL)))
    cells = padded.reshape(padded.shape[0] // _CELL, _CELL, -1, _CELL)
    waiting = {(int(row), int(column)) for row, column in np.argwhere(np.any(cells, axis=(1, 3)))}
    boxes = []
    while waiting:
        group, edge = [], [waiting.pop()]
        while edge:
            row, column = edge.pop()
            group.append((row, column))
            near = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & waiting
            waiting -= near
            edge += near
        rows, columns = zip(*group, strict=True)
        top, left = min(rows) * _CELL, min(columns) * _CELL
        part = hole[top : (max(rows) + 1) * _CELL, left : (max(columns) + 1) * _CELL]
        inside_rows, inside_columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
        boxes.append(
            Window(
                top + int(inside_rows[0]),
                left + int(inside_columns[0]),
                top + int(inside_rows[-1]) + 1,
                left + int(inside_columns[-1]) + 1,
            )
        )
    return boxes


def _merged(windows: Iterable[Window]) -> list[Window]:
    """Replace windows that overlap by the one around them, until none do."""
    disjoint: list[Window] = []
    for window in windows:
        grown = window
        while touching := [other for other in disjoint if _overlap(grown, other)]:
            disjoint = [other for other in disjoint if other not in touching]
            for other in touching:
                grown = _around(grown, other)
        disjoint.append(grown)
    return sorted(disjoint, key=lambda window: (window.top, window.left))


def _overlap(a: Window, b: Window) -> bool:
    return a.top < b.bottom and b.top < a.bottom and a.left < b.right and b.left < a.right


def _around(a: Window, b: Window) -> Window:
    return Window(min(a.top, b.top), min(a.left, b.left), max(a.bottom, b.bottom), max(a.right, b.right))
