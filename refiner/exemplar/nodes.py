"""A hole's pixels as nodes of a grid: what is computed for them takes time by their number, not by the photo's size."""

from __future__ import annotations

from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.ndimage import label
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.nn import functional

from refiner.interruption import breathe
from refiner.regions import dilated

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEAST_WEIGHT = 1e-6
_AT_ONCE = 1 << 18  # nodes that are enlarged to at once: bounds memory


class Nodes:
    """Some pixels of a picture, row by row.

    Args:
        where: (H,W), bool.

    Attributes:
        size: H, W.
        at: of each node, its place in a picture's pixels, row by row; (n,).
        places: its row and column; (n,2).
        near: its neighbors to the left, right, up and down; (n,4), indices of nodes, n where that is no node.
        inside: whether these lie within the picture; (n,4), bool.
    """

    def __init__(self, where: Tensor) -> None:
        self.size = height, width = where.shape[0], where.shape[1]
        self.at = where.flatten().nonzero()[:, 0]
        y, x = self.at // width, self.at % width
        self.places = torch.stack([y, x], dim=1)
        self.inside = torch.stack([x > 0, x < width - 1, y > 0, y < height - 1], dim=1)
        count = len(self.at)
        own = torch.arange(count, dtype=torch.int32, device=where.device)
        self.near = torch.full((count, 4), count, dtype=torch.int32, device=where.device)
        beside = (self.at[1:] == self.at[:-1] + 1) & self.inside[1:, 0]  # to the left is the node before, or none
        self.near[1:, 0] = torch.where(beside, own[:-1], count)
        self.near[:-1, 1] = torch.where(beside, own[1:], count)
        number = torch.full(((height + 2) * width,), count, dtype=torch.int32, device=where.device)
        number[self.at + width] = own  # with a row above the picture and one below
        self.near[:, 2] = number.take(self.at)
        self.near[:, 3] = number.take(self.at + 2 * width)

    def to(self, device: torch.device) -> Nodes:
        """The same nodes on a device."""
        if device == self.at.device:
            return self
        where = torch.zeros(self.size, dtype=torch.bool, device=device)
        where.flatten()[self.at.to(device)] = True
        return Nodes(where)

    def __len__(self) -> int:
        """How many nodes there are."""
        return len(self.at)

    @cached_property
    def counts(self) -> tuple[Tensor, Tensor]:
        """Of each node, how many neighbors lie inside the picture, and how many of these are no nodes; (n,1) each."""
        inside = self.inside.byte()  # a sum along an axis of four takes longer
        beside = (self.inside & (self.near == len(self))).byte()
        neighbors, outer = (each[:, :2] + each[:, 2:] for each in (inside, beside))
        return neighbors[:, :1] + neighbors[:, 1:], outer[:, :1] + outer[:, 1:]

    @property
    def at_rim(self) -> Tensor:
        """Which nodes lie beside what is no node, inside the picture; (n,), bool."""
        return self.counts[1][:, 0] > 0

    def has(self, direction: int) -> Tensor:
        """Which nodes have a node as their neighbor in a direction, an index into `near`; (n,), bool."""
        return self.near[:, direction] < len(self)

    def pairs(self) -> tuple[Tensor, Tensor]:
        """All pairs of neighbors: first the left or upper one; two tensors (m,) of indices."""
        ends = []
        for direction in (1, 3):
            first = self.has(direction).nonzero()[:, 0]
            ends.append(torch.stack([first, self.near[first, direction].long()]))
        one, other = torch.cat(ends, dim=1)
        return one, other

    def within(self, some: Tensor, pixels: int) -> Tensor:
        """Indices of the nodes at most so many pixels, along rows and columns, from some of them, bool (n,)."""
        grown = torch.zeros(self.size, dtype=torch.bool, device=self.at.device)
        grown.flatten()[self.at[some]] = True
        found: Tensor = dilated(grown, pixels).flatten()[self.at].nonzero()[:, 0]
        return found

    def near_among(self, some: Tensor) -> Tensor:
        """As `near`, of some nodes (k,), ascending, and by their numbers among these; (k,4), k for none of them."""
        number = torch.full((len(self) + 1,), len(some), dtype=self.near.dtype, device=self.near.device)
        number[some] = torch.arange(len(some), dtype=number.dtype, device=number.device)
        return picked(number, picked(self.near, some))

    def numbers(self, places: Tensor) -> Tensor:
        """Indices of the nodes at places (k,2); of the next one row by row where there is none."""
        at = places[:, 0] * self.size[1] + places[:, 1]
        return torch.searchsorted(self.at, at).clamp(max=len(self) - 1)

    def coarser(self, other: Nodes) -> Tensor:
        """Of each node, the one of a smaller picture that covers it; (n,) of `other`'s, n where that is no node."""
        row, column = (
            ((torch.arange(side, dtype=torch.float64) + 0.5) * (smaller / side))
            .long()
            .clamp(max=smaller - 1)
            .to(self.at)
            for side, smaller in zip(self.size, other.size, strict=True)
        )
        y, x = self.places.T.contiguous()
        return picked(other.table, picked(row * other.size[1], y) + picked(column, x)).long()

    def enlarged(self, other: Nodes, values: Tensor) -> Tensor:
        """Values (k,C) at the nodes of a smaller picture, bilinear at these; (n,C), 0 where no node is near."""
        lines = []  # for every row and every column of the picture, the two of the smaller one that it lies between
        for side, smaller in zip(self.size, other.size, strict=True):
            at = (torch.arange(side, device=values.device).to(values) + 0.5) * (smaller / side) - 0.5
            low = at.floor()
            ends = ((low, 1 - (at - low)), (low + 1, at - low))
            lines.append([(end.long().clamp(0, smaller - 1), share) for end, share in ends])
        found = values.new_empty(len(self), values.shape[1])
        for places, some in zip(torch.split(self.places, _AT_ONCE), torch.split(found, _AT_ONCE), strict=True):
            breathe()
            y, x = places.T.contiguous()
            near, weights = y.new_empty((len(y), 4), dtype=torch.int32), values.new_empty(len(y), 4)
            for corner, ((row, by_row), (column, by_column)) in enumerate(product(*lines)):
                near[:, corner] = picked(other.table, picked(row * other.size[1], y) + picked(column, x))
                weights[:, corner] = picked(by_row, y) * picked(by_column, x)
            weights *= near < len(other)
            total = weights.sum(dim=1, keepdim=True).clamp(min=_LEAST_WEIGHT)
            torch.div(sum_near(near, values, weights), total, out=some)
        return found

    @cached_property
    def table(self) -> Tensor:
        """Of each pixel of the picture, row by row, which node it is, `len(self)` for none; (H*W,)."""
        number = torch.full((self.size[0] * self.size[1],), len(self), dtype=torch.int32, device=self.at.device)
        number[self.at] = torch.arange(len(self), dtype=torch.int32, device=self.at.device)
        return number

    def parts(self, shifts: Tensor | None = None) -> tuple[Tensor, int]:
        """The number of each node's connected part, (n,), and how many there are.

        Args:
            shifts: (n,2); neighbors are connected where theirs are equal. None to connect all.
        """
        if shifts is None:
            return self._connected
        one, other = self.pairs()
        equal = same(picked(shifts, one), picked(shifts, other))
        return connected(len(self), one[equal], other[equal])

    def parts_of(self, some: Tensor) -> tuple[Tensor, int]:
        """The number of the connected part that each of some nodes is in, without the others; (k,), and how many.

        Args:
            some: which, (k,), indices.
        """
        y, x = picked(self.places, some).numpy().T
        where = np.zeros((np.ptp(y) + 1, np.ptp(x) + 1), bool)
        at = y - y.min(), x - x.min()
        where[at] = True
        labels, count = label(where)
        return torch.from_numpy(labels[at]).long() - 1, int(count)

    @cached_property
    def _connected(self) -> tuple[Tensor, int]:
        where, at = np.zeros(self.size, bool), self.at.cpu().numpy()
        where.ravel()[at] = True
        labels, count = label(where)
        return torch.from_numpy(labels.ravel()[at]).long().to(self.at.device) - 1, int(count)

    def part_means(self, values: Tensor) -> Tensor:
        """The mean of values (n,) over the nodes of each connected part; (parts,)."""
        part_of, count = self.parts()
        total = values.new_zeros(count).index_add_(0, part_of, values)
        return total / torch.bincount(part_of, minlength=count)


def picked(x: Tensor, index: Tensor) -> Tensor:
    """Rows of x (n,...), `x[index]`, in a third to a half of its time; indices of any shape, from 0 on."""
    at = index.flatten()
    pairs = x.dtype == torch.long and x.shape[1:] == (2,) and x.is_contiguous() and x.storage_offset() % 2 == 0
    if pairs and x.device.type == "cpu":  # as one number each, in half of its time again
        found = x.view(torch.complex128)[:, 0].index_select(0, at)
        return found.view(torch.long).view(*index.shape, 2)
    return x.index_select(0, at).view(*index.shape, *x.shape[1:])


def same(one: Tensor, other: Tensor) -> Tensor:
    """Where two shifts (n,2), one and the other, are equal; (n,), bool, in a quarter of `all`'s time."""
    return (one[:, 0] == other[:, 0]) & (one[:, 1] == other[:, 1])


def sum_near(near: Tensor, x: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sum of a value (n,C) over some nodes, given their indices (k,4), n where there is none; (k,C).

    Args:
        near: indices.
        x: the value.
        weights: how much each counts, (k,4); None for all the same.
    """
    breathe()
    padded = torch.cat([x, x.new_zeros(1, x.shape[1])])
    if x.device.type == "cpu":
        total: Tensor = functional.embedding_bag(near, padded, mode="sum", per_sample_weights=weights)
        return total
    found = padded[near.long()]
    return found.sum(dim=1) if weights is None else (found * weights[:, :, None]).sum(dim=1)


def connected(count: int, one: Tensor, other: Tensor) -> tuple[Tensor, int]:
    """The connected parts of a graph of `count` nodes with edges between (m,) and (m,): each node's, and how many."""
    ones: NDArray[np.bool_] = np.ones(len(one), bool)
    graph = coo_array((ones, (one.cpu().numpy(), other.cpu().numpy())), shape=(count, count))
    parts, labels = connected_components(graph, directed=False)
    return torch.from_numpy(labels).long().to(one.device), int(parts)
