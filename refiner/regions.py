"""Where holes lie: boxes of a picture, and a hole's separate regions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

Flags: TypeAlias = NDArray[np.bool_]

_CELL = 32  # pixels: parts of a hole in neighboring cells of this side, or of less in small pictures, are one region
_CELLS = 16  # at least, along a picture's shorter side
_AROUND = np.ones((3, 3), bool)  # diagonal neighbors are connected too


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

    def grown(self, margin: int, size: tuple[int, int]) -> Window:
        """The window with a margin on each side, within a picture of this height and width."""
        top, left = max(self.top - margin, 0), max(self.left - margin, 0)
        return Window(top, left, min(self.bottom + margin, size[0]), min(self.right + margin, size[1]))

    def aligned(self, step: int, size: tuple[int, int]) -> Window:
        """The window with its edges moved outward to multiples of a step, within a picture of this height and width."""
        top, left = self.top // step * step, self.left // step * step
        return Window(
            top, left, min(-(-self.bottom // step) * step, size[0]), min(-(-self.right // step) * step, size[1])
        )

    def overlaps(self, other: Window) -> bool:
        """Whether the two share a pixel."""
        rows = self.top < other.bottom and other.top < self.bottom
        return rows and self.left < other.right and other.left < self.right

    def around(self, other: Window) -> Window:
        """The smallest window that holds both."""
        top, left = min(self.top, other.top), min(self.left, other.left)
        return Window(top, left, max(self.bottom, other.bottom), max(self.right, other.right))


def whole(size: tuple[int, int]) -> Window:
    """The window that is all of a picture of this height and width."""
    return Window(0, 0, *size)


@dataclass(frozen=True)
class HoleBoxes:
    """Where a hole lies, without its pixels: what a plan is made from.

    Attributes:
        size: height and width of the picture.
        pixels: how many the hole has.
        boxes: of its regions.
    """

    size: tuple[int, int]
    pixels: int
    boxes: tuple[Window, ...]

    @classmethod
    def of(cls, hole: Flags) -> HoleBoxes:
        """The boxes of a hole (H,W)."""
        boxes = tuple(window for window, _ in _regions(hole))
        return cls((hole.shape[0], hole.shape[1]), int(np.count_nonzero(hole)), boxes)

    def halved(self) -> HoleBoxes:
        """The boxes in the picture halved, where holes grow by what the blur reaches."""
        (height, width), half = self.size, (self.size[0] // 2, self.size[1] // 2)
        edges = [
            (_halved_span(box.top, box.bottom, height), _halved_span(box.left, box.right, width)) for box in self.boxes
        ]
        boxes = tuple(Window(rows[0], columns[0], rows[1], columns[1]) for rows, columns in edges)
        return HoleBoxes(half, -(-self.pixels // 4), boxes)

    def resized(self, size: tuple[int, int]) -> HoleBoxes:
        """The boxes in the picture scaled to another height and width, and a pixel more to each side."""
        if size == self.size:
            return self
        y, x = size[0] / self.size[0], size[1] / self.size[1]
        scaled = (
            Window(int(box.top * y), int(box.left * x), math.ceil(box.bottom * y), math.ceil(box.right * x))
            for box in self.boxes
        )
        return HoleBoxes(size, round(self.pixels * x * y), tuple(box.grown(1, size) for box in scaled))


def _halved_span(start: int, stop: int, side: int) -> tuple[int, int]:
    """Where a span of an axis begins and ends after halving: a halved pixel is made of six, two beyond its own pair."""
    half = side // 2
    if half == 0:
        return 0, 0
    stretch = side / half  # over 2 where the side is odd
    # Pixel i is made of those from floor((i + 0.5) * stretch - 0.5) - 2 to 3 after it.
    first = math.ceil((start - 3 + 0.5) / stretch - 0.5)
    end = math.ceil((stop + 2 + 0.5) / stretch - 0.5)
    return min(max(first, 0), half - 1), min(max(end, 1), half)


@dataclass(frozen=True)
class Region:
    """One region of a hole.

    Attributes:
        window: its box.
        mask: its pixels there; (h,w), bool.
    """

    window: Window
    mask: Tensor

    def within(self, window: Window) -> Tensor:
        """Its pixels in a window that holds its own; (h,w), bool."""
        placed = torch.zeros(window.size, dtype=torch.bool, device=self.mask.device)
        top, left = self.window.top - window.top, self.window.left - window.left
        placed[top : top + self.mask.shape[0], left : left + self.mask.shape[1]] = self.mask
        return placed


def regions_of(hole: Tensor) -> list[Region]:
    """The regions of a hole (...,H,W), bool, one picture's: parts in neighboring cells belong together."""
    own = hole.reshape(hole.shape[-2:]).cpu().numpy()
    return [Region(window, torch.from_numpy(mask).to(hole.device)) for window, mask in _regions(own)]


def _regions(hole: Flags) -> Iterator[tuple[Window, Flags]]:
    """The box and the mask in it of each region."""
    cell = cell_side((hole.shape[0], hole.shape[1]))
    labels, _ = ndimage.label(_in_cells(hole, cell).any(axis=(1, 3)), _AROUND)
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        top, left = cell * rows.start, cell * columns.start
        mask = hole[top : cell * rows.stop, left : cell * columns.stop]
        own = (labels[rows, columns] == number).repeat(cell, 0).repeat(cell, 1)
        mask = mask & own[: mask.shape[0], : mask.shape[1]]
        y, x = (np.flatnonzero(mask.any(axis=axis))[[0, -1]] for axis in (1, 0))
        window = Window(top + int(y[0]), left + int(x[0]), top + int(y[1]) + 1, left + int(x[1]) + 1)
        yield window, mask[y[0] : y[1] + 1, x[0] : x[1] + 1].copy()


def parts_of(hole: Flags) -> tuple[NDArray[np.int32], int]:
    """The connected parts of a hole (H,W): the number of each pixel's, from 1, 0 outside; and how many there are."""
    labels, count = ndimage.label(hole, _AROUND)
    return labels.astype(np.int32, copy=False), int(count)


def dilated(mask: Tensor, pixels: int) -> Tensor:
    """A mask (...,H,W), bool, grown by a square of so many pixels to each side."""
    for axis in (-2, -1):
        side, reached = mask.shape[axis], 0
        while reached < pixels:
            step = min(reached + 1, pixels - reached)  # no farther, so that no gap stays beside the edge
            reached += step
            kept = side - min(step, side - 1)
            grown = mask.clone()
            grown.narrow(axis, 0, kept).logical_or_(mask.narrow(axis, side - kept, kept))
            grown.narrow(axis, side - kept, kept).logical_or_(mask.narrow(axis, 0, kept))
            mask = grown
    return mask


def cell_side(size: tuple[int, int]) -> int:
    """The side in pixels of the cells by which a picture's regions are told apart."""
    return max(min(_CELL, min(size) // _CELLS), 1)


def _in_cells(hole: Flags, cell: int) -> Any:
    """(H,W) as (rows of cells, cell, columns of cells, cell)."""
    padded = np.pad(hole, ((0, -hole.shape[0] % cell), (0, -hole.shape[1] % cell)))
    return padded.reshape(padded.shape[0] // cell, cell, -1, cell)
