"""Where to work at a scale: windows around the holes, so that cost follows the hole and not the photo.

The smallest scale always sees the whole photo; what it found guides the larger scales, which need only the
surroundings of each hole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from refiner.models.spec import ModelSpec
    from refiner.settings import Windows

_Flags: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]"

_CUT_SAVES = 0.8  # two windows that cover more of the area of one save too little for a blend between them
_BLEND = 32.0  # pixels, in depth within its window, over which one window's fill turns into another's
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

    def of(self, picture: Any) -> Any:
        """This part of (..., H, W)."""
        return picture[..., self.top : self.bottom, self.left : self.right]

    def halved(self) -> Window:
        """The same part of the picture at half the size; where the window starts at even pixels."""
        return Window(self.top // 2, self.left // 2, self.bottom // 2, self.right // 2)

    def depth(self, rows: Tensor, columns: Tensor, size: tuple[int, int]) -> Tensor:
        """How deep pixels lie within the window, in pixels; 0 outside it. The picture's own edges do not count.

        Args:
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

        down = along(rows, self.top, self.bottom, size[0])
        across = along(columns, self.left, self.right, size[1])
        return torch.minimum(down[:, None], across[None, :])


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
    found = find_windows(
        hole, context=context, min_side=spec.train_size, multiple=spec.multiple, cut=windows == "split"
    )
    worth_it = sum(window.area for window in found) < _WORTH_IT * everything.area
    return tuple(found) if found and worth_it else (everything,)


def find_windows(hole: Tensor, *, context: float, min_side: int, multiple: int, cut: bool = False) -> list[Window]:
    """Windows that hold every hole with context around it; they do not overlap unless holes are cut.

    Args:
        hole: (N,1,H,W), bool; the holes of a batch are taken together.
        context: margin around a hole, as a share of its shorter side.
        min_side: side in pixels that the margin is a share of where holes are smaller.
        multiple: windows start at multiples of this and of 2, and end there or at the picture's edge.
        cut: whether a long or branched hole is cut, where several windows cover clearly less than one; these overlap,
            so that each pixel of the hole has its margin in one of them.

    Returns:
        The windows; none where there is no hole.
    """
    flat = hole.any(dim=0)[0].cpu().numpy()
    frame = _Frame(context, min_side, math.lcm(multiple, 2), (flat.shape[0], flat.shape[1]))
    windows = _merged(frame.around(box) for box in _boxes(flat))
    if not cut:
        return windows
    parts = []
    for window in windows:
        parts += _cut(flat, window, _box_in(flat, window), frame)
    return parts


def shares(windows: Sequence[Window], index: int, size: tuple[int, int]) -> Tensor:
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
    near = [i for i, other in enumerate(windows) if _overlap(window, other)]
    depths = torch.stack([windows[i].depth(rows, columns, size) for i in near])
    behind = (depths.amax(dim=0) - depths).nan_to_num(0)  # of two windows that both reach the picture's edges: 0
    weights = (1 - behind / _BLEND).clamp(min=0) * (depths > 0)
    drawn = weights[[i for i, number in enumerate(near) if number <= index]].sum(dim=0)
    return torch.where(drawn > 0, weights[near.index(index)] / drawn.clamp(min=1e-6), 0)


@dataclass(frozen=True)
class _Frame:
    """How a window is laid around a hole's box; of one picture."""

    context: float
    min_side: int
    step: int
    size: tuple[int, int]

    def around(self, box: Window) -> Window:
        """The box with its margin, at multiples of the step."""
        top, left, bottom, right = self.edges(box.top, box.left, box.bottom, box.right)
        return Window(int(top), int(left), int(bottom), int(right))

    def area(self, boxes: Sequence[Window]) -> int:
        """Pixels of the windows around boxes, together."""
        return sum(self.around(box).area for box in boxes)

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


def _box_in(hole: _Flags, window: Window) -> Window:
    """The box of the hole's pixels in a window."""
    rows, columns = (np.flatnonzero(window.of(hole).any(axis=axis)) for axis in (1, 0))
    top, left = window.top, window.left
    return Window(top + int(rows[0]), left + int(columns[0]), top + int(rows[-1]) + 1, left + int(columns[-1]) + 1)


def _cut(hole: _Flags, window: Window, box: Window, frame: _Frame) -> list[Window]:
    """A window around a box of the hole, or smaller ones around parts of it, cut again and again by a line across."""
    boxes = min((_best_cut(hole, box, frame, axis) for axis in (0, 1)), key=frame.area)
    if frame.area(boxes) > _CUT_SAVES * window.area:
        return [window]
    return [found for part in boxes for found in _cut(hole, frame.around(part), part, frame)]


def _best_cut(hole: _Flags, box: Window, frame: _Frame, axis: int) -> list[Window]:
    """The hole's boxes on both sides of the line across an axis whose windows have the smallest area."""
    flags = box.of(hole) if axis == 0 else box.of(hole).T
    length, across = flags.shape
    if length == 1:
        return [box]
    seen, places = flags.any(axis=1), np.arange(length)
    start = np.where(seen, flags.argmax(axis=1), across)
    stop = np.where(seen, across - flags[:, ::-1].argmax(axis=1), 0)
    # Of the hole before each line, and behind it: first and last place along the axis, start and stop across it.
    before = (
        np.zeros(length - 1, int),
        np.maximum.accumulate(np.where(seen, places + 1, 0))[:-1],
        np.minimum.accumulate(start)[:-1],
        np.maximum.accumulate(stop)[:-1],
    )
    behind = (
        np.minimum.accumulate(np.where(seen, places, length)[::-1])[::-1][1:],
        np.full(length - 1, length),
        np.minimum.accumulate(start[::-1])[::-1][1:],
        np.maximum.accumulate(stop[::-1])[::-1][1:],
    )

    def in_picture(first: Any, last: Any, start: Any, stop: Any) -> tuple[Any, Any, Any, Any]:
        """Top, left, bottom, right."""
        if axis == 0:
            return first + box.top, start + box.left, last + box.top, stop + box.left
        return start + box.top, first + box.left, stop + box.top, last + box.left

    sides = [in_picture(*side) for side in (before, behind)]
    best = int(np.argmin(sum(_area(*frame.edges(*side)) for side in sides)))
    return [Window(*(int(edge[best]) for edge in side)) for side in sides]


def _area(top: Any, left: Any, bottom: Any, right: Any) -> Any:
    return (bottom - top) * (right - left)


def _boxes(hole: _Flags) -> list[Window]:
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
        boxes.append(_box_in(hole, Window(top, left, (max(rows) + 1) * _CELL, (max(columns) + 1) * _CELL)))
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
