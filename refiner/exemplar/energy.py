"""What it costs to copy pixels at certain shifts: what shows at the hole's rim and at seams between copies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from refiner.exemplar.palette import Palette

FORBIDDEN = 50.0  # cost of copying what may not be copied, above all else together
_RIM_WEIGHT = 48.0
_RIM_REACH = 3  # pixels beyond the rim at which a copy, continued, is compared with the photo
_RIM_SIGMA = 1.8
_UNKNOWN = 0.06  # squared difference where one of the two may not be copied
_SEAM = 0.002  # of any seam, whatever it joins


@dataclass(frozen=True)
class Guide:
    """What a fill should look like, roughly.

    Attributes:
        looks: of the fill, such as its colors; (C,H,W).
        weights: of the squared difference at each pixel; (C,H,W).
        photo: the looks of what may be copied; (C,H,P), as the palette has it.
    """

    looks: Tensor
    weights: Tensor
    photo: Tensor


class Energy:
    """The cost of shifts at the nodes, some or all pixels of a hole.

    Args:
        palette: what may be copied.
        hole: (H,W), bool.
        nodes: pixels of the hole whose shifts are looked for; (H,W), bool.
        guide: what to look like.

    Attributes:
        nodes: their rows and columns, (n,2).
        edges: pairs of nodes that are neighbors; two tensors (m,) of indices.
    """

    def __init__(self, palette: Palette, hole: Tensor, nodes: Tensor, guide: Guide | None = None) -> None:
        self._palette = palette
        self._look = _look(palette.image, palette.known)
        self._colors = self._look[:, :3]
        self.nodes = nodes.nonzero()
        index = torch.full(hole.shape, -1)
        index[nodes] = torch.arange(len(self.nodes))
        self.edges = self._pairs(index)
        ring = dilated(nodes, _RIM_REACH) & ~hole
        self._ring = ring.nonzero()
        self._ring_at = self._ring[:, 0] * palette.source.shape[1] + self._ring[:, 1]
        self._rim = self._rim_weights(ring)
        self._guide: tuple[Tensor, Tensor, Tensor] | None = None
        if guide is not None:
            photo = guide.photo.flatten(1).T.contiguous()
            self._guide = photo, guide.looks[:, nodes].T.contiguous(), guide.weights[:, nodes].T.contiguous()

    def __len__(self) -> int:
        """How many nodes there are."""
        return len(self.nodes)

    def single(self, shifts: Tensor, which: Tensor | None = None) -> Tensor:
        """What shifts, (2,) or (k,2), cost without seams at each node, or at those of these indices; (n,) or (k,n)."""
        nodes, rim, ring = self.nodes, self._rim, torch.arange(len(self._ring))
        if which is not None:
            nodes, rim = nodes[which], rim[which.numpy()]
            counts = torch.zeros(len(self._ring), dtype=torch.bool)
            counts[torch.from_numpy(rim.indices).long()] = True
            ring = counts.nonzero()[:, 0]
        at, allowed = self._palette.copied(nodes, shifts[..., None, :])
        ring_at, ring_allowed = self._palette.copied(self._ring[ring], shifts[..., None, :])
        error = (self._colors[ring_at] - self._colors[self._ring_at[ring]]).square().sum(dim=-1)
        errors = error.new_zeros(*error.shape[:-1], len(self._ring))
        errors[..., ring] = torch.where(ring_allowed, error, _UNKNOWN)
        cost = FORBIDDEN * (~allowed).float() + _RIM_WEIGHT * torch.from_numpy(
            rim @ errors.movedim(-1, 0).numpy()
        ).movedim(0, -1)
        if self._guide is not None:
            photo, looks, weights = self._guide
            if which is not None:
                looks, weights = looks[which], weights[which]
            cost += (weights * (photo[at] - looks).square()).sum(dim=-1)
        return cost

    def seams(self, edges: tuple[Tensor, Tensor], shifts: tuple[Tensor, Tensor]) -> Tensor:
        """How far copies differ at both ends of edges (m,), whose ends have these shifts (...,m,2); (...,m)."""
        differ = (shifts[0] != shifts[1]).any(dim=-1)
        one, other = shifts[0][differ], shifts[1][differ]
        cost = torch.full((len(one),), _SEAM, dtype=torch.float32)
        for end in edges:
            at = self.nodes[end.expand_as(differ)[differ]]
            (here, one_known), (there, other_known) = (self._palette.copied(at, shift) for shift in (one, other))
            difference = (self._look[here] - self._look[there]).square().sum(dim=1)
            cost += torch.where(one_known & other_known, difference, _UNKNOWN)
        costs = torch.zeros(differ.shape, dtype=torch.float32)
        costs[differ] = cost
        return costs

    def _pairs(self, index: Tensor) -> tuple[Tensor, Tensor]:
        ends = []
        for one, other in ((index[:, :-1], index[:, 1:]), (index[:-1], index[1:])):
            both = (one >= 0) & (other >= 0)
            ends.append(torch.stack([one[both], other[both]]))
        first, second = torch.cat(ends, dim=1)
        return first, second

    def _rim_weights(self, ring: Tensor) -> csr_matrix:
        """How much each pixel of the ring counts for each node: (nodes, ring), a Gaussian of their distance."""
        height, width = ring.shape
        index = torch.full((height, width), -1)
        index[ring] = torch.arange(len(self._ring))
        reach = torch.arange(-_RIM_REACH, _RIM_REACH + 1)
        line = torch.exp(-(reach.float() ** 2) / (2 * _RIM_SIGMA**2))
        line /= line.sum()
        rows, columns, values = [], [], []
        for dy, at_y in zip(reach, line, strict=True):
            for dx, at_x in zip(reach, line, strict=True):
                y, x = self.nodes[:, 0] + dy, self.nodes[:, 1] + dx
                inside = ((y >= 0) & (y < height) & (x >= 0) & (x < width)).nonzero()[:, 0]
                beyond = index[y[inside], x[inside]]
                there = beyond >= 0
                rows.append(inside[there])
                columns.append(beyond[there])
                values.append((at_y * at_x).expand(int(there.sum())))
        place = torch.cat(rows).numpy(), torch.cat(columns).numpy()
        return csr_matrix((torch.cat(values).numpy(), place), shape=(len(self.nodes), len(self._ring)))


def _look(image: Tensor, known: Tensor) -> Tensor:
    """What copies are compared by: colors and their steps to the next pixel; (H*P,9)."""
    right, down = torch.zeros_like(image), torch.zeros_like(image)
    right[:, :, :-1] = (image[:, :, 1:] - image[:, :, :-1]) * (known[:, 1:] & known[:, :-1])
    down[:, :-1] = (image[:, 1:] - image[:, :-1]) * (known[1:] & known[:-1])
    return torch.cat([image, right, down]).flatten(1).T.contiguous()


def dilated(mask: Tensor, pixels: int) -> Tensor:
    """A mask (H,W) grown by a square of so many pixels to each side."""
    grown = functional.max_pool2d(mask[None, None].float(), 2 * pixels + 1, stride=1, padding=pixels)
    return grown[0, 0] > 0
