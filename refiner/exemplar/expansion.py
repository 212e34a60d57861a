"""Expansion moves: each pixel keeps its shift or takes the one proposed, whichever is best for all together.

Source: Boykov, Veksler and Zabih, "Fast Approximate Energy Minimization via Graph Cuts", PAMI 2001. Terms that are not
submodular are truncated, and a move that does not lower the energy is not made (Rother et al., "Digital Tapestry",
CVPR 2005). Where proposals differ from node to node, it is a fusion move (Lempitsky et al., "Fusion Moves for Markov
Random Field Optimization", PAMI 2010).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow
from torch import Tensor

from refiner.exemplar.energy import FORBIDDEN, Move
from refiner.exemplar.nodes import picked, same

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


def expand(energy: Energy, labeling: Labeling, movers: Tensor, proposed: Tensor, costs: Tensor) -> float:
    """Give nodes the shifts proposed for them, where these are best off with it together.

    Each connected part of those that would move is taken for itself: it moves only if its energy falls.

    Args:
        energy: what is minimized.
        labeling: of its nodes; changed in place.
        movers: which nodes may move; (k,), indices.
        proposed: the shift that each may take, (k,2).
        costs: what it costs there; (k,).

    Returns:
        By how much the energy fell.
    """
    shifts = labeling.shifts
    may = ((costs < FORBIDDEN) & ~same(picked(shifts, movers), proposed)).nonzero()[:, 0]
    movers, proposed, costs = (picked(each, may) for each in (movers, proposed, costs))
    if not len(movers):
        return 0.0
    index = torch.full((len(energy),), -1)
    index[movers] = torch.arange(len(movers))
    numbers = [picked(index, end) for end in energy.edges]
    touched = ((numbers[0] >= 0) | (numbers[1] >= 0)).nonzero()[:, 0]
    one, other = (picked(end, touched) for end in energy.edges)
    mover_one, mover_other = (picked(each, touched) for each in numbers)
    free_one, free_other = mover_one >= 0, mover_other >= 0
    stay, second, first, both = energy.seams_of_move(
        (one, other), (mover_one, mover_other), shifts, Move(movers, proposed)
    )

    dearer = costs - picked(labeling.costs, movers)
    pair, second_alone = (each.nonzero()[:, 0] for each in (free_one & free_other, free_other & ~free_one))
    difference = dearer.clone()
    for mover, which, change in (
        (mover_one, free_one.nonzero()[:, 0], first - stay),
        (mover_other, second_alone, second - stay),
        (mover_other, pair, both - first),
    ):
        difference.index_add_(0, picked(mover, which), picked(change, which))
    apart = picked(first + second - stay - both, pair).clamp_(min=0)
    ends = picked(mover_one, pair), picked(mover_other, pair)
    moves = torch.from_numpy(min_cut(difference.numpy(), (ends[0].numpy(), ends[1].numpy()), apart.numpy()))
    which = moves.nonzero()[:, 0]
    if not len(which):
        return 0.0

    number = torch.full((len(moves) + 1,), -1)  # of those that move; the last is for who may not
    number[which] = torch.arange(len(which))
    moved_one, moved_other = number[mover_one], number[mover_other]
    together = (moved_one >= 0) & (moved_other >= 0)
    part, count = energy.nodes.parts_of(movers[which])
    change = torch.zeros(count, dtype=torch.float64).index_add_(0, part, dearer[which].double())
    for of_moved, where, after in (
        (moved_one, ~together, first),
        (moved_other, ~together, second),
        (moved_one, together, both),
    ):
        some = (where & (of_moved >= 0)).nonzero()[:, 0]
        change.index_add_(0, part[of_moved[some]], (after - stay)[some].double())
    better = (change < -_LEAST_GAIN)[part]
    which = which[better]
    shifts[movers[which]] = proposed[which]
    labeling.costs[movers[which]] = costs[which]
    return -float(change[change < -_LEAST_GAIN].sum())


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
    # From what moves, which takes half as long as from what stays: fewer nodes lie on that side.
    tails = np.concatenate([edges[1][joined], dear, np.full(len(cheap), moves)])
    heads = np.concatenate([edges[0][joined], np.full(len(dear), stays), cheap])
    graph: Any = csr_array(coo_array((capacities, (tails, heads)), shape=(count + 2, count + 2)))
    left = graph - maximum_flow(graph, moves, stays, method="dinic").flow
    left.data[left.data < 0] = 0
    left.eliminate_zeros()
    reached = np.zeros(count + 2, bool)
    reached[breadth_first_order(left, moves, return_predecessors=False)] = True
    return reached[:count]
