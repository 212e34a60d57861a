"""What it costs to copy pixels at certain shifts: what shows at the hole's rim and at seams between copies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from refiner.exemplar.appearance import UNKNOWN
from refiner.exemplar.nodes import picked, same
from refiner.regions import dilated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from refiner.exemplar.appearance import Appearance
    from refiner.exemplar.nodes import Nodes
    from refiner.exemplar.palette import Palette

FORBIDDEN = 50.0  # cost of copying what may not be copied, above all else together
_RIM_WEIGHT = 48.0
_RIM_REACH = 3
_RIM_SIGMA = 1.8
_SEAM = 0.002  # of any seam, whatever it joins


_CHUNK = 1 << 22  # pairs of nodes and rim pixels that are compared at once


@dataclass(frozen=True)
class Move:
    """Nodes that may take other shifts.

    Attributes:
        nodes: which; (k,), indices.
        shifts: what each may take; (k,2).
    """

    nodes: Tensor
    shifts: Tensor


class Energy:
    """The cost of shifts at the nodes, some or all pixels of a hole.

    Args:
        palette: what may be copied.
        hole: (H,W), bool.
        nodes: pixels of the hole whose shifts are looked for.
        appearance: what to look like; None to go by the rim alone.
        reach: pixels beyond the rim at which a copy, continued, is compared with the photo.

    Attributes:
        palette: as given.
        nodes: as given.
        edges: pairs of nodes that are neighbors; two tensors (m,) of indices.
    """

    def __init__(
        self,
        palette: Palette,
        hole: Tensor,
        nodes: Nodes,
        appearance: Appearance | None = None,
        reach: int = _RIM_REACH,
    ) -> None:
        self._reach = reach
        self.palette = palette
        self._look = _look(palette)
        self._colors = self._look[:, :3]
        self.nodes = nodes
        self.edges = nodes.pairs()
        where = torch.zeros_like(hole)
        where.flatten()[nodes.at] = True
        ring = dilated(where, reach) & ~hole
        self._ring = ring.nonzero().contiguous()
        self._ring_at = self._ring[:, 0] * palette.width + self._ring[:, 1]
        self._rim = self._rim_weights(ring)
        self._appearance = appearance
        self._unknown = UNKNOWN if appearance is None else appearance.unknown

    def __len__(self) -> int:
        """How many nodes there are."""
        return len(self.nodes)

    def of_all(self, shift: Tensor) -> Tensor:
        """What a shift (2,) costs at each node, seams left out; (n,)."""
        ring_at, ring_may = self.palette.copied(self._ring, shift)
        errors = torch.where(ring_may, self._difference(ring_at, self._ring_at), self._unknown)
        at, may = self.palette.copied(self.nodes.places, shift)
        return self._summed(at, may, torch.from_numpy(self._rim @ errors.numpy()), slice(None))

    def of(self, which: Tensor, shifts: Tensor) -> Tensor:
        """What shifts (k,2) cost at nodes of these indices (k,), seams left out; (k,)."""
        at, may = self.palette.copied(picked(self.nodes.places, which), shifts)
        starts, stops = (picked(torch.from_numpy(self._rim.indptr[i:]), which).long() for i in (0, 1))
        counts = stops - starts
        rim = torch.zeros(len(which), dtype=torch.float32)
        here = counts.nonzero()[:, 0]
        for some in torch.split(here, max(_CHUNK // max(_most(counts), 1), 1)):
            each = some.repeat_interleave(counts[some])
            first = (counts[some].cumsum(0) - counts[some]).repeat_interleave(counts[some])
            pair = torch.arange(len(each)) - first + starts[each]
            beyond = torch.from_numpy(self._rim.indices).long()[pair]
            copied, allowed = self.palette.copied(picked(self._ring, beyond), picked(shifts, each))
            error = torch.where(allowed, self._difference(copied, picked(self._ring_at, beyond)), self._unknown)
            rim.index_add_(0, each, error * torch.from_numpy(self._rim.data)[pair])
        return self._summed(at, may, rim, which)

    def of_parts(self, shifts: Tensor) -> Tensor:
        """What shifts (n,2) cost each connected part of the nodes, with seams; (parts,)."""
        part_of, count = self.nodes.parts()
        one, other = self.edges
        total = torch.zeros(count).index_add_(0, part_of, self.of(torch.arange(len(self)), shifts))
        return total.index_add_(0, part_of[one], self.seams(self.edges, shifts[one], shifts[other][None])[0])

    def of_pieces(self, piece_of: Tensor, shifts: Tensor) -> Tensor:
        """What shifts (K,m,2) cost m pieces, all of whose nodes take the same, seams left out; (K,m).

        Args:
            piece_of: of each node; (n,).
            shifts: K to compare.
        """
        count = shifts.shape[1]
        ones: Any = np.ones(len(self), np.float32)
        members = csr_matrix((ones, (piece_of.numpy(), np.arange(len(self)))), shape=(count, len(self)))
        weights = (members @ self._rim).tocoo()  # the nodes of a piece see much the same of the rim
        piece, beyond = (torch.from_numpy(each).long() for each in (weights.row, weights.col))
        weight = torch.from_numpy(weights.data)
        found = []
        for own in shifts:
            cost = torch.zeros(count, dtype=torch.float32)
            _, may = self.palette.copied(self.nodes.places, picked(own, piece_of))
            cost.index_add_(0, piece_of, FORBIDDEN * (~may).float())
            copied, allowed = self.palette.copied(picked(self._ring, beyond), picked(own, piece))
            error = torch.where(allowed, self._difference(copied, picked(self._ring_at, beyond)), self._unknown)
            found.append(cost.index_add_(0, piece, _RIM_WEIGHT * error * weight))
        return torch.stack(found)

    def seams(self, edges: tuple[Tensor, Tensor], fixed: Tensor, tried: Tensor) -> Tensor:
        """How far copies differ at both ends of edges (m,), whose one end has a shift and the other may take several.

        Args:
            edges: pairs of nodes that are neighbors.
            fixed: the one end's shift, whichever end that is; (m,2).
            tried: the other's; (K,m,2).

        Returns:
            (K,m), 0 where the shifts are the same.
        """
        costs = torch.full(tried.shape[:2], _SEAM, dtype=torch.float32)
        for end in edges:
            place = picked(self.nodes.places, end)
            at, may = self.palette.copied(place, fixed)
            look = self._look.index_select(0, at)
            for cost, shifts in zip(costs, tried, strict=True):
                other_at, other_may = self.palette.copied(place, shifts)
                difference = (self._look.index_select(0, other_at) - look).square_().sum(dim=1)
                cost.add_(torch.where(may & other_may, difference, self._unknown))
        return costs * (tried != fixed).any(dim=2)

    def seams_of_move(
        self, ends: tuple[Tensor, Tensor], numbers: tuple[Tensor, Tensor], shifts: Tensor, move: Move
    ) -> Tensor:
        """How far copies differ at edges one of whose ends may move, or both.

        Args:
            ends: first and second of each edge; (m,) each.
            numbers: of these ends among those that may move, -1 for who may not; (m,) each.
            shifts: of all nodes; (n,2).
            move: who may move, each to another shift than its own.

        Returns:
            Where both ends keep their shifts, the second alone moves, the first alone, and both do; (4,m). Who may not
            move keeps its shift in all of them.
        """
        first, second = (each >= 0 for each in numbers)
        both = first & second
        own = [picked(shifts, end) for end in ends]
        mover = torch.where(first, *numbers)
        other_mover = torch.where(both, numbers[1], mover)
        taken, other_taken = picked(move.shifts, mover), picked(move.shifts, other_mover)
        together = same(taken, other_taken)
        inside = together & both & same(*own)
        costs = torch.zeros(4, len(both), dtype=torch.float32)

        # Inside a piece that may move as a whole, which most edges are, it is the same which end moves.
        which = inside.nonzero()[:, 0]
        (alone,) = self._differences(move.nodes, (picked(shifts, move.nodes), move.shifts), ((0, 1),))
        costs[1:3, which] = _SEAM + picked(alone, picked(mover, which)) + picked(alone, picked(other_mover, which))

        which = (together & ~inside).nonzero()[:, 0]
        stay, one, other = self._of_edges(ends, (*own, taken), ((0, 1), (2, 1), (0, 2)), which)
        has_first, has_second = picked(first, which), picked(second, which)
        costs[0, which] = stay
        costs[1, which] = torch.where(has_second, other, stay)
        costs[2, which] = torch.where(has_first, one, stay)
        costs[3, which] = torch.where(has_first, one, other) * ~picked(both, which)

        which = (~together).nonzero()[:, 0]
        costs[:, which] = self._of_edges(ends, (*own, taken, other_taken), ((0, 1), (0, 3), (2, 1), (2, 3)), which)
        return costs

    def _of_edges(
        self,
        ends: tuple[Tensor, Tensor],
        tried: Sequence[Tensor],
        pairs: Sequence[tuple[int, int]],
        which: Tensor,
    ) -> Tensor:
        """How far copies differ at some edges, (k,), between pairs of these shifts, (m,2) each; (pairs,k)."""
        costs = torch.full((len(pairs), len(which)), _SEAM, dtype=torch.float32)
        if not len(which):
            return costs
        tried = [picked(each, which) for each in tried]
        for end in ends:
            for cost, difference in zip(costs, self._differences(picked(end, which), tried, pairs), strict=True):
                cost.add_(difference)
        for cost, (one, other) in zip(costs, pairs, strict=True):
            cost.mul_(~same(tried[one], tried[other]))
        return costs

    def _differences(self, nodes: Tensor, tried: Sequence[Tensor], pairs: Sequence[tuple[int, int]]) -> list[Tensor]:
        """How far copies differ at nodes (k,) between pairs of these shifts, (k,2) each; (k,) for each pair."""
        at, may = self.palette.copied(picked(self.nodes.places, nodes), torch.stack(list(tried)))
        looks = [self._look.index_select(0, each) for each in at]
        return [
            torch.where(may[one] & may[other], (looks[one] - looks[other]).square_().sum(dim=1), self._unknown)
            for one, other in pairs
        ]

    def _difference(self, at: Tensor, other: Tensor) -> Tensor:
        return (picked(self._colors, at) - picked(self._colors, other)).square_().sum(dim=1)

    def _summed(self, at: Tensor, may: Tensor, rim: Tensor, which: Tensor | slice) -> Tensor:
        cost = FORBIDDEN * (~may).float() + _RIM_WEIGHT * rim
        wanted = self._appearance
        if wanted is not None:
            fill = wanted.fill[which] if isinstance(which, slice) else picked(wanted.fill, which)
            difference = (picked(wanted.photo, at) - fill).square_()
            if wanted.trust is None or wanted.most is None:
                cost += difference @ wanted.weights
            else:
                colors, others = (difference[:, some] @ wanted.weights[some] for some in (slice(3), slice(3, None)))
                cost += colors.mul_(wanted.trust[which]).minimum(wanted.most[which]) + others
        return cost

    def _rim_weights(self, ring: Tensor) -> csr_matrix:
        """How much each pixel of the ring counts for each node: (nodes, ring), a Gaussian of their distance."""
        height, width = ring.shape
        index = torch.full((height, width), -1)
        index[ring] = torch.arange(len(self._ring))
        reach = torch.arange(-self._reach, self._reach + 1)
        line = torch.exp(-(reach.float() ** 2) / (2 * _RIM_SIGMA**2))
        line /= line.sum()
        near = dilated(ring, self._reach).flatten()[self.nodes.at].nonzero()[:, 0]
        rows, columns, values = [], [], []
        for dy, at_y in zip(reach, line, strict=True):
            for dx, at_x in zip(reach, line, strict=True):
                y, x = self.nodes.places[near, 0] + dy, self.nodes.places[near, 1] + dx
                inside = ((y >= 0) & (y < height) & (x >= 0) & (x < width)).nonzero()[:, 0]
                beyond = index[y[inside], x[inside]]
                there = beyond >= 0
                rows.append(near[inside[there]])
                columns.append(beyond[there])
                values.append((at_y * at_x).expand(int(there.sum())))
        place = torch.cat(rows).numpy(), torch.cat(columns).numpy()
        return csr_matrix((torch.cat(values).numpy(), place), shape=(len(self.nodes), len(self._ring)))


def _most(counts: Tensor) -> int:
    return int(counts.max()) if len(counts) else 0


def _look(palette: Palette) -> Tensor:
    """What copies are compared by: colors and their steps to the next pixel; (H*P,9)."""
    known = palette.spread(palette.known)
    look = torch.zeros(*known.shape, 9, dtype=palette.image.dtype)
    colors = look[..., :3]
    for channel in range(3):
        colors[..., channel] = palette.spread(palette.image[channel])
    right, down = look[:, :-1, 3:6], look[:-1, :, 6:]
    torch.sub(colors[:, 1:], colors[:, :-1], out=right)
    torch.sub(colors[1:], colors[:-1], out=down)
    right.mul_((known[:, 1:] & known[:, :-1])[..., None])
    down.mul_((known[1:] & known[:-1])[..., None])
    return look.flatten(0, 1)
