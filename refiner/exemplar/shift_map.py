"""Shift maps: chosen at the smallest level, doubled from level to level and mended where pieces meet.

A shift map is (n,2): how many rows and columns away from each node, a pixel of the hole, what it copies lies in the
palette. A piece is a connected part of the hole whose nodes have one shift.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional

from refiner.exemplar.energy import FORBIDDEN, Energy
from refiner.exemplar.expansion import Labeling, expand
from refiner.exemplar.nodes import Nodes, picked, same
from refiner.exemplar.progress import part
from refiner.exemplar.tiles import RANKS, corners, frequent_by_tile
from refiner.regions import Window, dilated

if TYPE_CHECKING:
    from refiner.exemplar.appearance import Appearance
    from refiner.exemplar.palette import Palette
    from refiner.exemplar.progress import OnStep

_FOUND_OFFSETS = 60
_LEAST_VOTES = 8  # of patches, for a shift to be tried for others
_NEIGHBORHOOD = 12  # pixels around those that found a shift, in which it is tried
_LEAST_GAIN = 1e-4  # of a nudge
_BAND = 2  # pixels on both sides of an edge that the edge may move by, from one level to the next
_RIM = 3
_MENDED_REACH = 2  # pixels beyond the rim that mended pieces are compared with
_NUDGES = torch.cartesian_prod(torch.tensor([0, -1, 1]), torch.tensor([0, -1, 1]))  # that a piece may move by
_DISLIKE = 0.05  # cost of a shift, at most, that a seed has for it
_STRAY = 10.0  # cost of a shift that no offset offers
_TOO_DEAR = 0.05  # above what a node has: hardly any seam is worth it, and two nodes of five need not be asked
_SPREADS = 8  # times that a shift is taken from a neighbor
_SEARCHED = 64  # pixels around nodes in which the nearest pixel that may be copied is looked for first
_AROUND = ((-1, 0), (0, -1), (1, 0), (0, 1))


def choose_shifts(
    energy: Energy,
    offsets: Tensor,
    first: Tensor | None,
    seed: int,
    on_step: OnStep,
    handicap: Tensor | None = None,
) -> Tensor:
    """The shift map of the smallest level, by expansion moves.

    Args:
        energy: what is minimized, over all of the hole's pixels; of a palette with at least one pixel to copy.
        offsets: that all nodes may take; (K,2).
        first: a shift for each node that is tried before; (n,2). None for none.
        seed: of what is drawn at random.
        on_step: see `OnStep`.
        handicap: what each offset costs besides, at each node; (K,n). None for nothing.

    Returns:
        (n,2).
    """
    start = nearest_source(energy.palette, energy.nodes.places)
    labeling = Labeling(start, torch.full((len(energy),), _STRAY, dtype=torch.float32))
    if not len(offsets):
        return labeling.shifts
    random = torch.Generator().manual_seed(seed)
    costs = torch.stack([energy.of_all(offset) for offset in offsets])
    if handicap is not None:
        costs += handicap
    if seed:  # another seed is for another fill: it likes some offsets less, where 0 has no likes
        costs += _DISLIKE * torch.rand(len(offsets), 1, generator=random)
    least, best = costs.min(dim=0)
    possible = least < FORBIDDEN
    labeling.shifts[possible] = offsets[best[possible]]
    labeling.costs[possible] = least[possible]
    everyone = torch.arange(len(energy))
    if first is not None:
        expand(energy, labeling, everyone, first, energy.of(everyone, first))
    order = torch.randperm(len(offsets), generator=random).tolist()
    for step, k in enumerate(order):  # once round: a second one brought 0.5 % of L1 for a fifth of the time
        if on_step(step / len(order)):
            break
        movers = (costs[k] < labeling.costs + _TOO_DEAR).nonzero()[:, 0]
        expand(energy, labeling, movers, offsets[k].expand(len(movers), 2), costs[k][movers])
    return labeling.shifts


def follow_found(
    shifts: Tensor,
    nodes: Nodes,
    hole: Tensor,
    palette: Palette,
    appearance: Appearance,
    found: Tensor,
    which: Tensor,
    on_step: OnStep,
) -> Tensor:
    """Take shifts that a search of patches found at this level, where the whole is better off with them.

    Args:
        shifts: (n,2).
        nodes: the hole's pixels.
        hole: (H,W), bool.
        palette: what may be copied.
        appearance: what the fill should look like.
        found: (n,2).
        which: nodes that may take them; (k,), indices.
        on_step: see `OnStep`.

    Returns:
        (n,2).
    """
    energy = Energy(palette, hole, nodes, appearance)
    labeling = Labeling(shifts.clone(), energy.of(torch.arange(len(energy)), shifts))
    expand(energy, labeling, which, found[which], energy.of(which, found[which]))
    may = torch.zeros(len(nodes), dtype=torch.bool)
    may[which] = True
    where = torch.zeros(hole.shape, dtype=torch.bool)
    offsets = frequent(found[which])
    for step, offset in enumerate(offsets):
        if on_step(step / len(offsets)):
            break
        where[:] = False
        where.flatten()[nodes.at[(found - offset).abs().amax(dim=1) <= 1]] = True
        movers = (dilated(where, _NEIGHBORHOOD).flatten()[nodes.at] & may).nonzero()[:, 0]
        costs = energy.of(movers, offset.expand(len(movers), 2))
        worth = (costs < picked(labeling.costs, movers) + _TOO_DEAR).nonzero()[:, 0]
        movers = picked(movers, worth)
        expand(energy, labeling, movers, offset.expand(len(movers), 2), picked(costs, worth))
    return labeling.shifts


def follow_nearby(shifts: Tensor, energy: Energy, found: Tensor, on_step: OnStep) -> Tensor:
    """Take shifts that a search of patches found near by, where the whole is better off with them.

    For holes that spread over a photo: what is frequent in all of them is seldom what continues one of their parts.

    Args:
        shifts: (n,2).
        energy: what is minimized, over all of the hole's pixels.
        found: (n,2).
        on_step: see `OnStep`.

    Returns:
        (n,2).
    """
    everyone = torch.arange(len(energy))
    labeling = Labeling(shifts.clone(), energy.of(everyone, shifts))
    expand(energy, labeling, everyone, found, energy.of(everyone, found))
    for begun, corner in enumerate(corners()):
        for rank, (which, proposed) in enumerate(frequent_by_tile(energy.nodes.places, found, corner)):
            if on_step((begun + rank / RANKS) / len(corners())):
                return labeling.shifts
            costs = energy.of(which, proposed)
            # Only who gains by itself: L1 as where all may go along, in two thirds of the time.
            worth = (costs < picked(labeling.costs, which)).nonzero()[:, 0]
            expand(energy, labeling, *(picked(each, worth) for each in (which, proposed, costs)))
    return labeling.shifts


def frequent(shifts: Tensor, count: int = _FOUND_OFFSETS) -> Tensor:
    """The most frequent of many shifts (n,2), none within a pixel of a more frequent one: (K,2)."""
    low = shifts.amin(dim=0) - 1
    height, width = (shifts.amax(dim=0) - low + 2).tolist()
    votes = torch.zeros(height * width, dtype=torch.float32)
    at = (shifts - low) @ torch.tensor([width, 1])
    votes.index_add_(0, at, torch.ones(len(shifts)))
    picture = votes.view(1, 1, height, width)
    peaks = (picture * (functional.max_pool2d(picture, 3, 1, 1) == picture)).flatten()
    top = peaks.topk(min(count, int((peaks >= _LEAST_VOTES).sum()))).indices
    return torch.stack([top // width, top % width], dim=1) + low


def double_shifts(shifts: Tensor, coarse: Nodes, nodes: Nodes, palette: Palette) -> Tensor:
    """A shift map at twice the size: every pixel copies what it did, in more pixels.

    Args:
        shifts: (k,2).
        coarse: the smaller level's nodes.
        nodes: the larger level's.
        palette: what may be copied there.

    Returns:
        (n,2).
    """
    covered = nodes.coarser(coarse)
    doubled = picked(torch.cat([2 * shifts, shifts.new_zeros(1, 2)]), covered)
    return joined(doubled, ~palette.copied(nodes.places, doubled)[1] | (covered == len(coarse)), nodes, palette)


def joined(shifts: Tensor, astray: Tensor, nodes: Nodes, palette: Palette) -> Tensor:
    """A shift map whose nodes that are astray, bool (n,), take the shifts of those beside them; changed in place."""
    which = astray.nonzero()[:, 0]
    for spread in range(_SPREADS):
        if not len(which):
            return shifts
        step = torch.tensor(_AROUND[spread % len(_AROUND)])
        place = torch.minimum((nodes.places[which] + step).clamp(min=0), torch.tensor(nodes.size) - 1)
        neighbor = nodes.numbers(place)
        there = (nodes.places[neighbor] == place).all(dim=1)
        shifts[which[there]] = shifts[neighbor[there]]
        _, allowed = palette.copied(nodes.places[which], shifts[which])
        which = which[~(allowed & there)]
    if len(which):
        shifts[which] = nearest_source(palette, nodes.places[which])
    return shifts


def mend_shifts(shifts: Tensor, nodes: Nodes, hole: Tensor, palette: Palette, on_step: OnStep) -> Tensor:
    """Move whole pieces by a pixel where that fits better, and the edges between pieces to where they show least.

    Pieces are colored so that no two that meet have the same color; all of one color are mended at once.

    Args:
        shifts: (n,2).
        nodes: the hole's pixels.
        hole: (H,W), bool.
        palette: what may be copied.
        on_step: see `OnStep`.

    Returns:
        (n,2).
    """
    one, other = nodes.pairs()
    apart = ~same(picked(shifts, one), picked(shifts, other))
    near = torch.zeros_like(hole)
    near.flatten()[nodes.at[torch.cat([one[apart], other[apart]])]] = True
    near = dilated(near, _BAND) & hole
    where = dilated(near | (dilated(~hole, _RIM) & hole), 1) & hole
    if not where.any():
        return shifts
    energy = Energy(palette, hole, Nodes(where), reach=_MENDED_REACH)
    own = nodes.numbers(energy.nodes.places)  # of the energy's nodes, their numbers among all
    piece, count = nodes.parts(shifts)
    color = _colors(count, piece[one[apart]], piece[other[apart]])
    shifts = shifts.clone()
    labeling = Labeling(shifts[own], energy.of(torch.arange(len(energy)), shifts[own]))
    colors = int(color.max()) + 1
    moves = _nudged(energy, labeling.shifts, piece, own, color, part(on_step, 0, 0.5))
    # Not where some pixel of a piece, near an edge or not, would then copy what it may not.
    moved = (moves != 0).any(dim=1)[piece].nonzero()[:, 0]
    _, may = palette.copied(nodes.places[moved], shifts[moved] + moves[piece[moved]])
    moves[piece[moved[~may]]] = 0
    shifts += moves[piece]
    labeling.shifts[:] = shifts[own]
    stale = (moves != 0).any(dim=1)[piece[own]].nonzero()[:, 0]
    labeling.costs[stale] = energy.of(stale, labeling.shifts[stale])
    movable = near.flatten()[energy.nodes.at]
    for each in range(colors):
        if on_step(0.5 + 0.5 * each / colors):
            break
        proposed, proposes = _spread(energy.nodes, labeling.shifts, color[piece[own]] == each)
        movers = (proposes & movable).nonzero()[:, 0]
        expand(energy, labeling, movers, proposed[movers], energy.of(movers, proposed[movers]))
    shifts[own] = labeling.shifts
    return shifts


def nearest_source(palette: Palette, places: Tensor) -> Tensor:
    """Shifts from places (n,2) to the nearest pixel that may be copied."""
    height, width = palette.source.shape
    (top, left), (bottom, right) = places.amin(dim=0).tolist(), places.amax(dim=0).tolist()
    window = Window(top, left, bottom + 1, right + 1).grown(_SEARCHED, (height, width))
    if not window.of(palette.source).any():
        window = Window(0, 0, height, width)
    found: Any = distance_transform_edt(~window.of(palette.source).numpy(), return_distances=False, return_indices=True)
    corner = torch.tensor([window.top, window.left])
    y, x = (places - corner).T
    nearest: Tensor = torch.from_numpy(found).long()[:, y, x].T + corner - places
    return nearest.contiguous()


def _nudged(energy: Energy, shifts: Tensor, piece: Tensor, own: Tensor, color: Tensor, on_step: OnStep) -> Tensor:
    """By how much each piece is to move, a pixel at most, to fit its surroundings best; (pieces,2).

    Args:
        energy: of the nodes near edges.
        shifts: of these, (k,2).
        piece: of each of the hole's pixels, (n,).
        own: the nodes' numbers among these; (k,).
        color: of each piece; no two that meet have the same, and all of one color move at once.
        on_step: see `OnStep`.
    """
    piece_of = piece[own]
    count = len(color)
    at = torch.zeros(count, 2, dtype=torch.long)
    at[piece_of] = shifts
    total = energy.of_pieces(piece_of, at + _NUDGES[:, None])
    total[0] -= _LEAST_GAIN  # the piece as it is
    one, other = energy.edges
    across = piece_of[one] != piece_of[other]
    edges = one[across], other[across]
    pieces = piece_of[edges[0]], piece_of[edges[1]]
    moves = torch.zeros_like(at)
    colors = int(color.max()) + 1
    for each in range(colors):
        if on_step(each / colors):
            break
        chosen = color == each
        some = (chosen[pieces[0]] | chosen[pieces[1]]).nonzero()[:, 0]
        ends = edges[0][some], edges[1][some]
        first, second = pieces[0][some], pieces[1][some]
        is_first = chosen[first]
        of_edge = torch.where(is_first, first, second)
        now = at + moves
        beside = now[torch.where(is_first, second, first)]
        total.index_add_(1, of_edge, energy.seams(ends, beside, at[of_edge] + _NUDGES[:, None]))
        moves[chosen] = _NUDGES[total[:, chosen].argmin(dim=0)]
    return moves


def _spread(nodes: Nodes, shifts: Tensor, of: Tensor) -> tuple[Tensor, Tensor]:
    """The shifts of some nodes, bool (n,), taken to those around them; (n,2), and which nodes these are, (n,)."""
    taken = torch.cat([shifts, shifts.new_zeros(1, 2)])
    has = torch.cat([of, of.new_zeros(1)])
    for _ in range(_BAND):
        before = has.clone()
        for direction in range(4):
            near = nodes.near[:, direction].long()
            new = ~has[:-1] & before[near]
            taken[:-1][new] = taken[near[new]]
            has[:-1] |= new
    return taken[:-1], has[:-1] & ~of


def _colors(count: int, one: Tensor, other: Tensor) -> Tensor:
    """Colors of pieces, (count,), from 0, such that no two that meet, (m,) and (m,), have the same."""
    both = torch.unique(torch.minimum(one, other) * count + torch.maximum(one, other))
    meet: list[set[int]] = [set() for _ in range(count)]
    for a, b in zip((both // count).tolist(), (both % count).tolist(), strict=True):
        meet[a].add(b)
        meet[b].add(a)
    colors = [-1] * count
    for number in sorted(range(count), key=lambda each: -len(meet[each])):
        taken = {colors[near] for near in meet[number]}
        colors[number] = next(color for color in range(count + 1) if color not in taken)
    return torch.tensor(colors)
