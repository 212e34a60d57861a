"""Shift maps: chosen at the smallest level, doubled from level to level and mended where pieces meet.

A shift map is (2,H,W): how many rows and columns away from each pixel of the hole what it copies lies, in the palette.
Elsewhere it is 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional

from refiner.exemplar.energy import FORBIDDEN, Energy, dilated
from refiner.exemplar.expansion import Labeling, expand
from refiner.exemplar.offsets import dominant_offsets

if TYPE_CHECKING:
    from collections.abc import Callable

    from refiner.exemplar.energy import Guide
    from refiner.exemplar.palette import Palette

_OFFSETS = 60
_MIRRORED_OFFSETS = 30
_LEAST_GAIN = 1e-4  # of a nudge
_BAND = 3  # pixels on both sides of an edge that the edge may move by, from one level to the next
_RIM = 3
_NUDGES = torch.tensor([0, -1, 1])  # pixels that a piece may move by, each way
_STRAY = 10.0  # cost of a shift that no offset offers
_SPREADS = 8  # times that a shift is taken from a neighbor
_AROUND = ((-1, 0), (0, -1), (1, 0), (0, 1))


def choose_shifts(
    palette: Palette,
    hole: Tensor,
    guide: Guide | None,
    seed: int,
    on_step: Callable[[int, int], object],
) -> Tensor:
    """The shift map of the smallest level, by expansion moves over the photo's dominant offsets.

    Args:
        palette: what may be copied, at least one pixel.
        hole: (H,W), bool.
        guide: colors to keep to.
        seed: of what is drawn at random.
        on_step: called before each move, with its number from 1 and how many there will be at most; true ends the
            search with what there is.
    """
    offsets = dominant_offsets(palette, hole, (_OFFSETS, _MIRRORED_OFFSETS), seed)
    energy = Energy(palette, hole, hole, guide)
    labeling = Labeling(nearest_source(palette, energy.nodes), torch.full((len(energy),), _STRAY, dtype=torch.float32))
    if len(offsets):
        costs = torch.stack([energy.single(offset) for offset in offsets])
        least, best = costs.min(dim=0)
        possible = least < FORBIDDEN
        labeling.shifts[possible] = offsets[best[possible]]
        labeling.costs[possible] = least[possible]
    anywhere = torch.arange(len(energy))
    order = torch.randperm(len(offsets), generator=torch.Generator().manual_seed(seed)).tolist()
    for step, k in enumerate(order, start=1):  # once round: a second one brought 0.5 % of L1 for a fifth of the time
        if on_step(step, len(order)):
            break
        expand(energy, labeling, offsets[k], anywhere, costs[k])
    return _map_of(labeling.shifts, hole)


def double_shifts(shifts: Tensor, hole: Tensor, palette: Palette) -> Tensor:
    """A shift map at twice the size: every pixel copies what it did, in more pixels.

    Args:
        shifts: (2,h,w).
        hole: of the larger level; (H,W), bool. Lies within the smaller one's.
        palette: what may be copied there.
    """
    doubled = functional.interpolate(shifts[None].double() * 2, size=hole.shape, mode="nearest")[0].long()
    astray = _astray(doubled, hole, palette).nonzero()
    for spread in range(_SPREADS):
        if not len(astray):
            break
        step = torch.tensor(_AROUND[spread % len(_AROUND)])
        y, x = torch.minimum((astray + step).clamp(min=0), torch.tensor(hole.shape) - 1).T
        doubled[:, astray[:, 0], astray[:, 1]] = doubled[:, y, x]
        _, allowed = palette.copied(astray, doubled[:, astray[:, 0], astray[:, 1]].T)
        astray = astray[~allowed]
    if len(astray):
        doubled[:, astray[:, 0], astray[:, 1]] = nearest_source(palette, astray).T
    return torch.where(hole, doubled, 0)


def mend_shifts(shifts: Tensor, hole: Tensor, palette: Palette, on_step: Callable[[], object]) -> Tensor:
    """Move whole pieces by a pixel where that fits better, and the edges between pieces to where they show least.

    Args:
        shifts: (2,H,W).
        hole: (H,W), bool.
        palette: what may be copied.
        on_step: called before each piece.
    """
    near_edges = dilated(_piece_edges(shifts, hole), _BAND) & hole
    nodes = dilated(near_edges | (dilated(~hole, _RIM) & hole), 1) & hole
    if not nodes.any():
        return shifts
    energy = Energy(palette, hole, nodes)
    mine = shifts[:, nodes].T.contiguous()
    pieces, piece_of = torch.unique(mine, dim=0, return_inverse=True)
    costs = torch.empty(len(energy), dtype=torch.float32)
    labeling = Labeling(mine, costs)
    mended = shifts.clone()
    for k, piece in enumerate(pieces):
        on_step()
        members = piece_of == k
        better, its_costs = _nudged(energy, labeling, piece, members)
        labeling.costs[members] = its_costs
        if not torch.equal(better, piece):
            whole_piece = (shifts == piece[:, None, None]).all(dim=0) & hole
            if _astray(torch.where(whole_piece, better[:, None, None], shifts), whole_piece, palette).any():
                labeling.costs[members] = energy.single(piece, members.nonzero()[:, 0])
                continue
            labeling.shifts[members] = better
            mended[:, whole_piece] = better[:, None]
            pieces[k] = better
    movable = near_edges[nodes]
    for piece in pieces:
        on_step()
        members = (labeling.shifts == piece).all(dim=1)
        if members.any() and not members.all():
            nearby = _near(energy.nodes, members, hole.shape)
            movers = (nearby & movable & ~members).nonzero()[:, 0]
            expand(energy, labeling, piece, movers, energy.single(piece, movers))
    mended[:, nodes] = labeling.shifts.T
    return mended


def nearest_source(palette: Palette, places: Tensor) -> Tensor:
    """Shifts from places (n,2) to the nearest pixel that may be copied."""
    found: Any = distance_transform_edt(~palette.source.numpy(), return_distances=False, return_indices=True)
    y, x = places.T
    nearest: Tensor = torch.from_numpy(found).long()[:, y, x].T - places
    return nearest


def _nudged(energy: Energy, labeling: Labeling, piece: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
    """The shift within a pixel of a piece's that fits its surroundings best, and what it costs at each member."""
    one, other = energy.edges
    across = (members[one] != members[other]).nonzero()[:, 0]
    edges = one[across], other[across]
    shifts = labeling.shifts[edges[0]], labeling.shifts[edges[1]]
    first = members[edges[0], None]
    own = members.nonzero()[:, 0]
    nudged = piece + torch.cartesian_prod(_NUDGES, _NUDGES)
    costs = energy.single(nudged, own)
    each = nudged[:, None]
    ends = torch.where(first, each, shifts[0]), torch.where(first, shifts[1], each)
    total = costs.sum(dim=1) + energy.seams(edges, ends).sum(dim=1)
    total[0] -= _LEAST_GAIN  # the piece as it is
    best = total.argmin()
    return nudged[best], costs[best]


def _near(nodes: Tensor, members: Tensor, size: torch.Size) -> Tensor:
    """Which nodes lie within the band around some of them."""
    own = nodes[members]
    top, left = (own.amin(dim=0) - _BAND).clamp(min=0).tolist()
    bottom, right = (own.amax(dim=0) + _BAND + 1).tolist()
    box = torch.zeros(min(bottom, size[0]) - top, min(right, size[1]) - left, dtype=torch.bool)
    box[own[:, 0] - top, own[:, 1] - left] = True
    box = dilated(box, _BAND)
    y, x = nodes[:, 0] - top, nodes[:, 1] - left
    inside: Tensor = (y >= 0) & (y < box.shape[0]) & (x >= 0) & (x < box.shape[1])
    return inside & box[y.clamp(0, box.shape[0] - 1), x.clamp(0, box.shape[1] - 1)]


def _piece_edges(shifts: Tensor, hole: Tensor) -> Tensor:
    """Pixels of the hole with a neighbor there that has another shift."""
    edges = torch.zeros_like(hole)
    down = (shifts[:, 1:] != shifts[:, :-1]).any(dim=0) & hole[1:] & hole[:-1]
    right = (shifts[:, :, 1:] != shifts[:, :, :-1]).any(dim=0) & hole[:, 1:] & hole[:, :-1]
    edges[1:] |= down
    edges[:-1] |= down
    edges[:, 1:] |= right
    edges[:, :-1] |= right
    return edges


def _astray(shifts: Tensor, hole: Tensor, palette: Palette) -> Tensor:
    """Pixels of the hole that would copy what may not be copied."""
    astray = torch.zeros_like(hole)
    _, allowed = palette.copied(hole.nonzero(), shifts[:, hole].T)
    astray[hole] = ~allowed
    return astray


def _map_of(shifts: Tensor, hole: Tensor) -> Tensor:
    spread = torch.zeros(2, *hole.shape, dtype=torch.long)
    spread[:, hole] = shifts.T
    return spread
