"""Expansion moves: each pixel keeps its shift or takes a certain one, whichever is best for all together.

Source: Boykov, Veksler and Zabih, "Fast Approximate Energy Minimization via Graph Cuts", PAMI 2001. Terms that are not
submodular are truncated, and a move that does not lower the energy is not made (Rother et al., "Digital Tapestry",
CVPR 2005).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow
from torch import Tensor

from refiner.exemplar.energy import FORBIDDEN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from refiner.exemplar.energy import Energy

_UNITS = 20_000  # a cost of 1, in the whole numbers that flows are counted in
_MOST_UNITS = 1e9
_LEAST_GAIN = 1e-6


@dataclass(frozen=True)
class Labeling:
    """Shifts of nodes, changed in place.

    Attributes:
        shifts: (n,2).
        costs: of each node's shift, without seams; (n,).
    """

    shifts: Tensor
    costs: Tensor


def expand(energy: Energy, labeling: Labeling, shift: Tensor, movers: Tensor, costs: Tensor) -> float:
    """Give a shift to the nodes that are best off with it.

    Args:
        energy: what is minimized.
        labeling: of its nodes; changed in place.
        shift: (2,).
        movers: which nodes may take it; (k,), indices.
        costs: what it costs at each of these; (k,).

    Returns:
        By how much the energy fell.
    """
    shifts = labeling.shifts
    may = (costs < FORBIDDEN) & (shifts[movers] != shift).any(dim=1)
    movers, costs = movers[may], costs[may]
    if not len(movers):
        return 0.0
    free = torch.zeros(len(energy), dtype=torch.bool)
    free[movers] = True
    index = torch.full((len(energy),), -1)
    index[movers] = torch.arange(len(movers))
    touched = (free[energy.edges[0]] | free[energy.edges[1]]).nonzero()[:, 0]
    one, other = (end[touched] for end in energy.edges)
    new = shift.expand(len(touched), 2)
    stay = energy.seams((one, other), (shifts[one], shifts[other]))
    second = energy.seams((one, other), (shifts[one], new))  # the second end moves alone
    first = energy.seams((one, other), (new, shifts[other]))

    dearer = costs - labeling.costs[movers]
    difference = dearer.clone()
    both, only_one, only_other = free[one] & free[other], free[one] & ~free[other], ~free[one] & free[other]
    difference.index_add_(0, index[one[only_one]], (first - stay)[only_one])
    difference.index_add_(0, index[other[only_other]], (second - stay)[only_other])
    difference.index_add_(0, index[one[both]], (first - stay)[both])
    difference.index_add_(0, index[other[both]], -first[both])
    apart = (first + second - stay)[both].clamp(min=0)
    ends = index[one[both]].numpy(), index[other[both]].numpy()
    moves = torch.from_numpy(min_cut(difference.numpy(), ends, apart.numpy()))

    moved = torch.zeros(len(energy), dtype=torch.bool)
    moved[movers[moves]] = True
    after = [torch.where(moved[end, None], shift, shifts[end]) for end in (one, other)]
    change = (energy.seams((one, other), (after[0], after[1])) - stay).sum()
    change += dearer[moves].sum()
    if change > -_LEAST_GAIN:
        return 0.0
    shifts[moved] = shift
    labeling.costs[movers[moves]] = costs[moves]
    return -float(change)


def min_cut(
    costs: NDArray[np.float32], edges: tuple[NDArray[np.int64], NDArray[np.int64]], weights: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Which nodes x (n,) are true where the sum of `costs * x` and of `weights * (1 - x_first) * x_second` is least.

    Args:
        costs: of each node where it is true; (n,).
        edges: first and second ends; (m,) each.
        weights: of each edge, from 0; (m,).
    """
    count = len(costs)
    stays, moves = count, count + 1  # the two terminals
    units = np.clip(np.rint(costs * _UNITS), -_MOST_UNITS, _MOST_UNITS).astype(np.int32)
    between = np.clip(np.rint(weights * _UNITS), 0, _MOST_UNITS).astype(np.int32)
    dear, cheap, joined = np.nonzero(units > 0)[0], np.nonzero(units < 0)[0], between > 0
    if not len(cheap):
        return np.zeros(count, bool)
    capacities = np.concatenate([between[joined], units[dear], -units[cheap]])
    tails = np.concatenate([edges[0][joined], np.full(len(dear), stays), cheap])
    heads = np.concatenate([edges[1][joined], dear, np.full(len(cheap), moves)])
    graph: Any = csr_array(coo_array((capacities, (tails, heads)), shape=(count + 2, count + 2)))
    left = graph - maximum_flow(graph, stays, moves, method="dinic").flow
    left.data[left.data < 0] = 0
    left.eliminate_zeros()
    reached = np.zeros(count + 2, bool)
    reached[breadth_first_order(left, stays, return_predecessors=False)] = True
    return ~reached[:count]
