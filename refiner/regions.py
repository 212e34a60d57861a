"""Where holes lie: boxes of a picture, and a hole's separate regions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

if TYPE_CHECKING:
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
        cells: boxes of the hole's pixels in each cell that has any, see `cell_side`: top, left, bottom, right; (K,4).
        regions: which region each of these belongs to; (K,), from 0.
    """

    size: tuple[int, int]
    pixels: int
    cells: NDArray[np.int64]
    regions: NDArray[np.int64]

    @classmethod
    def of(cls, hole: Flags) -> HoleBoxes:
        """The boxes of a hole (H,W)."""
        height, width = hole.shape
        cell = cell_side((height, width))
        blocks = _in_cells(hole, cell)
        rows, columns = blocks.any(axis=3), blocks.any(axis=1)  # (Y, cell, X) and (Y, X, cell)
        occupied = rows.any(axis=1)
        labels, _ = ndimage.label(occupied, _AROUND)
        y, x = np.nonzero(occupied)
        along_y, along_x = rows.transpose(0, 2, 1)[y, x], columns[y, x]  # (K, cell) each
        cells = np.stack(
            [
                cell * y + along_y.argmax(axis=1),
                cell * x + along_x.argmax(axis=1),
                cell * (y + 1) - along_y[:, ::-1].argmax(axis=1),
                cell * (x + 1) - along_x[:, ::-1].argmax(axis=1),
            ],
            axis=1,
        )
        return cls((height, width), int(np.count_nonzero(hole)), cells.astype(np.int64), labels[y, x].astype(int) - 1)

    def halved(self) -> HoleBoxes:
        """The boxes in the picture halved, where holes grow by what the blur reaches."""
        size = self.size[0] // 2, self.size[1] // 2
        edges = [
            _halved_edges(self.cells[:, axis], self.cells[:, axis + 2], self.size[axis], size[axis]) for axis in (0, 1)
        ]
        (top, bottom), (left, right) = edges
        cells = np.stack([top, left, bottom, right], axis=1)
        return HoleBoxes(size, -(-self.pixels // 4), cells, self.regions)

    def resized(self, size: tuple[int, int]) -> HoleBoxes:
        """The boxes in the picture scaled to another height and width, and a pixel more to each side."""
        if size == self.size:
            return self
        ratios = np.array([size[0] / self.size[0], size[1] / self.size[1]] * 2)
        scaled = self.cells * ratios
        limits = np.array([*size, *size])
        starts = np.clip(np.floor(scaled[:, :2]) - 1, 0, limits[:2] - 1)
        stops = np.clip(np.ceil(scaled[:, 2:]) + 1, 1, limits[2:])
        pixels = round(self.pixels * float(ratios[0] * ratios[1]))
        return HoleBoxes(size, pixels, np.concatenate([starts, stops], axis=1).astype(np.int64), self.regions)

    def windows(self) -> list[Window]:
        """The box of each region."""
        count = int(self.regions.max(initial=-1)) + 1
        boxes = np.zeros((count, 4), np.int64)
        boxes[:, :2] = max(self.size)
        for column, reduce in enumerate((np.minimum, np.minimum, np.maximum, np.maximum)):
            reduce.at(boxes[:, column], self.regions, self.cells[:, column])
        return [Window(*map(int, box)) for box in boxes]


def _halved_edges(
    start: NDArray[np.int64], stop: NDArray[np.int64], side: int, half: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where spans of an axis begin and end after halving: a halved pixel is made of six, two beyond its own pair."""
    if half == 0:
        return np.zeros_like(start), np.zeros_like(stop)
    stretch = side / half  # over 2 where the side is odd
    # Pixel i is made of those from floor((i + 0.5) * stretch - 0.5) - 2 to 3 after it.
    first = np.ceil((start - 3 + 0.5) / stretch - 0.5).astype(np.int64)
    end = np.ceil((stop + 2 + 0.5) / stretch - 0.5).astype(np.int64)
    return np.clip(first, 0, half - 1), np.clip(end, 1, half)


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
    flags = hole.reshape(hole.shape[-2:])
    own = flags.cpu().numpy()
    cell = cell_side((own.shape[0], own.shape[1]))
    labels, _ = ndimage.label(_in_cells(own, cell).any(axis=(1, 3)), _AROUND)
    regions = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        box = slice(cell * rows.start, cell * rows.stop), slice(cell * columns.start, cell * columns.stop)
        cells = (labels[rows, columns] == number).repeat(cell, 0).repeat(cell, 1)
        mask = own[box]
        mask = mask & cells[: mask.shape[0], : mask.shape[1]]
        window = _box_of(mask, box[0].start, box[1].start)
        own_mask = mask[window.top - box[0].start : window.bottom - box[0].start][
            :, window.left - box[1].start : window.right - box[1].start
        ]
        regions.append(Region(window, torch.from_numpy(own_mask.copy()).to(hole.device)))
    return regions


def parts_of(hole: Flags) -> tuple[NDArray[np.int32], int]:
    """The connected parts of a hole (H,W): the number of each pixel's, from 1, 0 outside; and how many there are."""
    labels, count = ndimage.label(hole, _AROUND)
    return labels.astype(np.int32, copy=False), int(count)


def dilated(mask: Tensor, pixels: int) -> Tensor:
    """A mask (...,H,W), bool, grown by a square of so many pixels to each side."""
    flat = mask.reshape(-1, 1, *mask.shape[-2:]).float()
    side = 2 * pixels + 1
    grown = functional.max_pool2d(functional.max_pool2d(flat, (side, 1), 1, (pixels, 0)), (1, side), 1, (0, pixels))
    return (grown > 0).reshape(mask.shape)


def cell_side(size: tuple[int, int]) -> int:
    """The side in pixels of the cells by which a picture's regions are told apart."""
    return max(min(_CELL, min(size) // _CELLS), 1)


def _in_cells(hole: Flags, cell: int) -> Any:
    """(H,W) as (rows of cells, cell, columns of cells, cell)."""
    padded = np.pad(hole, ((0, -hole.shape[0] % cell), (0, -hole.shape[1] % cell)))
    return padded.reshape(padded.shape[0] // cell, cell, -1, cell)


def _box_of(mask: Flags, top: int, left: int) -> Window:
    """The box of the marked pixels of a part of a picture that starts at `top`, `left`."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return Window(top + int(rows[0]), left + int(columns[0]), top + int(rows[-1]) + 1, left + int(columns[-1]) + 1)
