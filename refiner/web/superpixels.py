"""A picture as a graph of superpixels (waterpixels, Machairas et al., 2015): small even patches, and their borders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from refiner.images.planes import Pixels

_MOST = 255  # of the gradient, as the watershed takes it
_WIDEST = 4  # cells to a side that a patch may cover
_STEEP = 40.0  # CIELAB a pixel: steeper edges are all the same
_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], np.float32)
_WHITE = np.array([0.9505, 1.0, 1.089], np.float32)  # D65


@dataclass(frozen=True)
class Superpixels:
    """Patches of a picture, numbered from 0, and the borders between them.

    Attributes:
        labels: (h,w), the number of each pixel's patch.
        colors: (n,3), the mean color of each in CIELAB.
        areas: (n,), pixels of each.
        pairs: (m,2), the patches on both sides of each border.
        lengths: (m,), pixels of each border.
    """

    labels: NDArray[np.int32]
    colors: NDArray[np.float64]
    areas: NDArray[np.int64]
    pairs: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @property
    def contrasts(self) -> NDArray[np.float64]:
        """(m,), the difference in color across each border."""
        first, second = self.pairs.T
        distances: NDArray[np.float64] = np.linalg.norm(self.colors[first] - self.colors[second], axis=1)
        return distances


def superpixels(pixels: Pixels, step: int) -> Superpixels:
    """Cut sRGB pixels (h,w,3) into patches of about `step` by `step` pixels, whose borders follow edges."""
    lab = lab_of(pixels)
    height, width = lab.shape[:2]
    slopes = [ndimage.gaussian_gradient_magnitude(lab[..., channel], 0.8) for channel in range(3)]
    steepness = np.minimum(np.sqrt(sum(slope**2 for slope in slopes)) / _STEEP, 1)
    step = max(min(step, height, width), 1)
    grid = _divided(_flooded(np.rint(steepness * _MOST).astype(np.uint8), step), step)
    count = int(grid.max()) + 1
    pairs, lengths = _borders(grid, count)
    colors = _means(lab.reshape(-1, 3), grid.ravel(), count)
    return Superpixels(grid, colors, np.bincount(grid.ravel(), minlength=count), pairs, lengths)


def _flooded(steepness: NDArray[np.uint8], step: int) -> NDArray[np.int32]:
    """The watershed of a gradient (h,w) from its flattest pixel in each cell of a grid: (h,w), numbered from 0."""
    height, width = steepness.shape
    rows, columns = height // step, width // step
    cells = steepness[: rows * step, : columns * step].reshape(rows, step, columns, step).swapaxes(1, 2)
    flattest = cells.reshape(rows, columns, -1).argmin(axis=2)
    y = np.arange(rows)[:, None] * step + flattest // step
    x = np.arange(columns)[None] * step + flattest % step
    markers = np.zeros((height, width), np.int32)
    markers[y, x] = np.arange(1, rows * columns + 1).reshape(rows, columns)
    flooded: NDArray[np.int32] = ndimage.watershed_ift(steepness, markers) - 1
    return flooded


def _divided(labels: NDArray[np.int32], step: int) -> NDArray[np.int32]:
    """Patches, those cut in squares that are far larger than a cell: in a flat sky, one can flood all of it."""
    side = _WIDEST * step
    large = np.bincount(labels.ravel()) > side**2
    y, x = np.ogrid[: labels.shape[0], : labels.shape[1]]
    squares = 1 + y // side * (labels.shape[1] // side + 1) + x // side
    keys = labels.astype(np.int64) * (int(squares.max()) + 1) + np.where(large[labels], squares, 0)
    numbers: NDArray[np.int32] = np.unique(keys, return_inverse=True)[1].reshape(labels.shape).astype(np.int32)
    return numbers


def lab_of(pixels: Pixels) -> NDArray[np.float32]:
    """CIELAB (h,w,3) of sRGB pixels (h,w,3) of 8 bits."""
    table = np.arange(256, dtype=np.float32) / 255
    table = np.where(table <= 0.04045, table / 12.92, ((table + 0.055) / 1.055) ** 2.4)  # noqa: PLR2004  of sRGB
    xyz = (table[pixels] @ _TO_XYZ.T / _WHITE).astype(np.float32)
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)  # noqa: PLR2004  of CIELAB
    light, red, blue = 116 * root[..., 1] - 16, 500 * (root[..., 0] - root[..., 1]), 200 * (root[..., 1] - root[..., 2])
    return np.dstack([light, red, blue]).astype(np.float32)


def _means(points: NDArray[Any], labels: NDArray[Any], count: int) -> NDArray[np.float64]:
    areas = np.maximum(np.bincount(labels, minlength=count), 1)
    return np.stack([np.bincount(labels, values, count) / areas for values in points.T], axis=1)


def _borders(labels: NDArray[np.int32], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    sides = [(labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])]
    keys = np.concatenate([(np.minimum(a, b).astype(np.int64) * count + np.maximum(a, b))[a != b] for a, b in sides])
    found, lengths = np.unique(keys, return_counts=True)
    return np.stack([found // count, found % count], axis=1), lengths
