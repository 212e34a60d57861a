"""Copies put together without a seam, in the gradient domain.

Source: Pérez, Gangnet and Blake, "Poisson Image Editing", SIGGRAPH 2003. What is solved for is the correction that is
added to the copies. It is screened: it falls off away from seams, so that a difference at one rim does not tint the
whole fill. Each level of a pyramid starts from the correction of the level before, and needs a few steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from refiner.exemplar.laplace import solve
from refiner.exemplar.nodes import picked, same
from refiner.exemplar.progress import OnStep, part
from refiner.regions import Window, regions_of

if TYPE_CHECKING:
    from refiner.exemplar.nodes import Nodes
    from refiner.exemplar.palette import Palette

_MOST = 0.2  # a larger difference is an edge of the scene, not of exposure
_MOST_AT_RIM = 0.3
_SURE = 0.1  # a smaller one is of exposure alone
_REACH = 2.0  # over how many of the hole's half-widths a correction falls off
_SHORT_REACH = 0.1  # the same, of what is not of exposure
_SHORT_STEPS = 40
_MORE_STEPS = 20  # where the level before has been solved
_BUSIER = 1.25  # by how much copies may be busier than the photo beside them before steps across the rim are lessened
_HOLD = 2.0  # how firmly a step across the rim is brought to what is wanted there, against a step between pieces
_CELL, _CELLS = 4, 7  # pixels, and of these, over which that is compared
_AREA = _CELL * _CELLS
_LEAST_STEP = 1e-6


class Copied(NamedTuple):
    """What is copied at a level.

    Attributes:
        nodes: the hole's pixels.
        palette: what may be copied.
        shifts: of each node, (n,2).
    """

    nodes: Nodes
    palette: Palette
    shifts: Tensor

    def to(self, device: torch.device) -> Copied:
        """The same on a device."""
        return Copied(self.nodes.to(device), self.palette.to(device), self.shifts.to(device))

    def colors(self) -> Tensor:
        """Of each node, (n,3)."""
        return self.palette.colors(self.palette.copied(self.nodes.places, self.shifts)[0])


@dataclass(frozen=True)
class Correction:
    """What to add to copies so that nothing shows between them and at the hole's rim.

    Attributes:
        far: for differences in exposure; (n,3).
        near: joins what does not belong together, within a short distance; (n,3).
    """

    far: Tensor
    near: Tensor

    def enlarged(self, coarse: Nodes, nodes: Nodes) -> Correction:
        """The same at a larger picture's nodes, given those it is of."""
        both = nodes.enlarged(coarse, torch.cat([self.far, self.near], dim=1))
        return Correction(both[:, :3].contiguous(), both[:, 3:].contiguous())


@dataclass(frozen=True)
class _Steps:
    """Steps between neighbors at least one of which is a node, that are to become others.

    Attributes:
        first: indices of the left or upper nodes; (m,), -1 beside the hole.
        second: of the right or lower ones.
        change: by how much each step is to rise; (m,3).
        at_rim: which of them cross the rim; (m,), bool.
        counts: how many go to the right, and how many down, which follow.
    """

    first: Tensor
    second: Tensor
    change: Tensor
    at_rim: Tensor
    counts: list[int]


def seam_correction(copied: Copied, coarser: Correction | None, steps: int, on_step: OnStep) -> Correction:
    """The correction of copies.

    Args:
        copied: what is copied.
        coarser: the level before's at these nodes; None to start from nothing.
        steps: of the solver.
        on_step: see `OnStep`.
    """
    nodes, wanted = copied.nodes, _wanted(copied)
    on_step(0)
    part_of, count = nodes.parts()
    pixels, edges = (torch.bincount(each, minlength=count) for each in (part_of, part_of[nodes.at_rim]))
    half_width = (pixels.float() / edges.clamp(min=1).float())[part_of, None]
    for_far, for_near = ((reach * half_width).clamp(min=1) ** -2 for reach in (_REACH, _SHORT_REACH))
    small = _of_exposure(wanted)
    starts = (None, None) if coarser is None else (coarser.far, coarser.near)
    short_steps = _SHORT_STEPS if coarser is None else _MORE_STEPS
    far = solve(nodes, _divergence(nodes, wanted, small), starts[0], steps=steps, screening=for_far, hold=_HOLD,
                on_step=part(on_step, 0.3, 0.6))  # fmt: skip
    rest = wanted.change - small
    near = torch.zeros_like(far)
    if rest.any():
        near = solve(nodes, _divergence(nodes, wanted, rest), starts[1], steps=short_steps,
                     screening=for_near, hold=_HOLD, on_step=part(on_step, 0.6, 1))  # fmt: skip
    return Correction(far, near)


def _of_exposure(steps: _Steps) -> Tensor:
    """The part of steps' changes that is one of exposure; (m,3).

    A large difference is one of the scene, of which nothing is spread: it would be a cloud in a sky, or haze before a
    wood on a bright shore. At the rim, where there is nothing else to go by, it has to be larger.
    """
    size = steps.change.abs().amax(dim=1, keepdim=True)
    most = torch.where(steps.at_rim[:, None], _MOST_AT_RIM, _MOST)
    return steps.change * ((most - size) / (most - _SURE)).clamp(0, 1)


def _divergence(nodes: Nodes, steps: _Steps, change: Tensor) -> Tensor:
    """The right-hand side by which steps change so; (n,3)."""
    b = change.new_zeros(len(nodes), change.shape[1])
    change = torch.where(steps.at_rim[:, None], _HOLD, 1.0) * change
    for ends, sign in ((steps.first, -1), (steps.second, 1)):
        # Down and to the right by themselves: each node comes once then, and a GPU has no order to choose for sums.
        for some, by in zip(torch.split(ends, steps.counts), torch.split(change, steps.counts), strict=True):
            mine = some >= 0
            b.index_add_(0, some[mine], by[mine], alpha=sign)
    return b


def _wanted(copied: Copied) -> _Steps:
    """At each seam and at the rim, what step its two sides have where they are copied from, less what they have."""
    (nodes, palette, shifts), copies = copied, copied.colors()
    firsts, seconds, changes, rims = [], [], [], []
    photo = palette.image.flatten(1)
    for direction, axis in ((1, 1), (3, 0)):
        to_next = (torch.arange(2, device=nodes.places.device) == axis).long()
        both = nodes.has(direction).nonzero()[:, 0]
        one, other = both, nodes.near[both, direction].long()
        seam = ~same(picked(shifts, one), picked(shifts, other))
        none = one.new_full((1,), -1)
        rim = (nodes.inside[:, direction] & ~nodes.has(direction)).nonzero()[:, 0]
        behind = (nodes.inside[:, direction - 1] & ~nodes.has(direction - 1)).nonzero()[:, 0]
        first = torch.cat([one[seam], rim, none.expand(len(behind))])
        second = torch.cat([other[seam], none.expand(len(rim)), behind])
        place = torch.cat([nodes.places[one[seam]], nodes.places[rim], nodes.places[behind] - to_next])
        next_place = place + to_next
        have = [
            torch.where(end[:, None] >= 0, copies[end], photo[:, at[:, 0] * nodes.size[1] + at[:, 1]].T)
            for end, at in ((first, place), (second, next_place))
        ]
        wanted, known = torch.zeros_like(have[0]), have[0].new_zeros(len(first), 1)
        for end in (first, second):
            step, counts = _copied_step(palette, shifts[end], place, next_place)
            counts = (counts & (end >= 0))[:, None]
            wanted += torch.where(counts, step, 0)
            known += counts
        wanted /= known.clamp(min=1)
        firsts.append(first)
        seconds.append(second)
        rims.append((first < 0) | (second < 0))
        changes.append((wanted, have[1] - have[0]))
    first, second, at_rim = torch.cat(firsts), torch.cat(seconds), torch.cat(rims)
    wanted, steps = (torch.cat([change[i] for change in changes]) for i in (0, 1))
    node = torch.where(first >= 0, first, second)
    calm = _calm(palette.image, nodes, copies, ~palette.known)
    wanted *= torch.where(at_rim, calm[node], 1.0)[:, None]
    return _Steps(first, second, wanted - steps, at_rim, [len(each) for each in firsts])


def _copied_step(palette: Palette, shift: Tensor, place: Tensor, next_place: Tensor) -> tuple[Tensor, Tensor]:
    """The step between two neighbors (m,2) where they are copied from, (m,3), and whether both may be copied."""
    (here, may), (there, may_too) = (palette.copied(each, shift) for each in (place, next_place))
    return palette.colors(there) - palette.colors(here), may & may_too


def _calm(image: Tensor, nodes: Nodes, copies: Tensor, hole: Tensor) -> Tensor:
    """Factors on steps across the rim: below 1 where copies are busier than the photo beside them; (n,), else 1."""
    calm = torch.ones(len(nodes), dtype=copies.dtype, device=copies.device)
    gray_copies = (copies[:, 0] + copies[:, 1]).add_(copies[:, 2]).div_(3)  # a fifth of `mean`'s time
    for region in regions_of(hole):
        window = region.window.grown(_AREA, nodes.size)
        inside = window.of(hole)
        gray = window.of(image).mean(dim=0)
        own = nodes_in(nodes, window)
        gray[inside] = picked(gray_copies, own)
        beside, copied = _mean_steps(gray, inside)
        factors = (_BUSIER * beside / copied.clamp(min=_LEAST_STEP)).clamp(max=1)
        rim = own[nodes.at_rim[own]]
        y, x = nodes.places[rim].T
        y, x = y - window.top, x - window.left
        mine = region.within(window)[y, x]
        calm[rim[mine]] = factors[y[mine] // _CELL, x[mine] // _CELL]
    return calm


def nodes_in(nodes: Nodes, window: Window) -> Tensor:
    """Indices of the nodes in a window, row by row."""
    y, x = nodes.places.T
    ends = torch.tensor([window.top, window.bottom]).to(y.device)
    first, last = torch.searchsorted(y.contiguous(), ends).cpu().tolist()
    own = (x[first:last] >= window.left) & (x[first:last] < window.right)
    found: Tensor = own.nonzero()[:, 0] + first
    return found


def _mean_steps(gray: Tensor, inside: Tensor) -> list[Tensor]:
    """Between neighbors beside a hole, and between those in it, around each cell; (h,w), 0 where none are."""
    everything = slice(None)
    ends = (
        ((everything, slice(0, -1)), (everything, slice(1, None))),
        ((slice(0, -1), everything), (slice(1, None), everything)),
    )
    steps = [(gray[there] - gray[here]).abs() for here, there in ends]
    means = []
    for where in (~inside, inside):
        total, count = torch.zeros_like(gray), torch.zeros_like(gray)
        for (here, there), step in zip(ends, steps, strict=True):
            both = where[here] & where[there]
            total[here] += step * both
            count[here] += both
        mean, share = (
            functional.avg_pool2d(
                functional.avg_pool2d(each[None], _CELL, ceil_mode=True, divisor_override=_CELL**2),
                _CELLS, 1, _CELLS // 2,
            )[0]
            for each in (total, count)
        )  # fmt: skip
        means.append(mean / share.clamp(min=_LEAST_STEP))
    return means
