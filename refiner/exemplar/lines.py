"""Edges that go on under a hole: seen on both sides of it, on one straight line or arc.

What is carried inward from the rim (`transport.py`) knows one side of the hole. A wall that the hole's rim grazes, the
horizon behind a tree or the edge of a path is seen on both, and where it lies between them is then all but known.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter
from torch import Tensor

from refiner.exemplar.nodes import picked
from refiner.interruption import breathe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SMOOTHED = 1.0  # sigma in pixels, of what steps are measured on
_UNCLEAN = 2.0  # pixels beside a hole that may show a rest of what it hides
_BEYOND, _SAMPLE, _SAMPLES = 1.5, 1.5, 8  # where an edge is looked at, outward from the rim, in pixels
_LEAST_SEEN = 0.6  # of these
_MOST_POINTS = 250  # of the rim, evenly
_HEADINGS = 90
_BENDS, _BEND = 3, 0.015  # on each side, and their step: 1 / radius in pixels
_STEEPEST, _TURN = 30, 5  # degrees between an arc and its chord, at most, and their step
_STRAIGHT = 20.0  # degrees, over which arcs are less likely than lines
_SHORTEST, _FAR = 8.0, 300.0  # pixels; over the latter lines grow less likely, as ends may meet by accident
_INSIDE = 0.9  # of a line, that lies in the hole
_ASIDE = 3  # pixels on both sides, of which colors are compared and taken
_DIFFER = 0.5  # how much it counts that colors at both ends differ, against the edge's own step
_FAINT = 0.01  # step from pixel to pixel, which an edge may be by accident
_LEAST = 0.25  # of a line's likeliness
_APART = 4.0  # pixels between the ends of two
_MOST_TRIED = 3000
_OFF = 1  # pixels that an edge may lie beside its line
_PEAK = 1.4  # of an edge's steepest step, against the mean of those beside it
_DRAWN = 2.0  # pixels on both sides of a line
_ALONG = 6  # pixels of an edge, whose mean color is drawn
_AT_ONCE = 32  # points of the rim: bounds memory


class Line(NamedTuple):
    """An edge under a hole, from rim to rim.

    Attributes:
        ends: x and y of both; (2,2).
        angle: in radians between its chord, first end to second, and the line itself at the first; its negative there
            at the second.
        colors: across the line at both ends, from `_ASIDE` pixels on one side to as many on the other; (2,n,3).
        likely: how likely it is that the two ends belong together; from 0 to 1.
    """

    ends: Tensor
    angle: float
    colors: Tensor
    likely: float

    def at(self, share: Tensor) -> Tensor:
        """Places x and y, (n,2), at shares of the way, (n,)."""
        first, second = self.ends
        chord = second - first
        aside = (math.tan(self.angle) * share * (1 - share))[:, None]
        places: Tensor = first + share[:, None] * chord + aside * torch.stack([-chord[1], chord[0]])
        return places


class _Edges(NamedTuple):
    """What is seen from each point of the rim outward, in each heading and for each bend; rows in this order.

    Attributes:
        clear: the share of all steps from pixel to pixel there that is one step across, everywhere alike; (n,).
        step: this one, toward the side of growing heading; (n,3).
        sides: the mean color of both sides; (n,2,3).
    """

    clear: Tensor
    step: Tensor
    sides: Tensor


class _Pairs(NamedTuple):
    """Pairs of points of the rim: which ones, (n,) each, the angle of the line that joins them, and its likeliness."""

    first: Tensor
    second: Tensor
    angle: Tensor
    likely: Tensor


def lines_under(image: Tensor, hole: Tensor) -> list[Line]:
    """The edges that go on under a hole, the likeliest first; none crosses another.

    Args:
        image: (3,H,W); what lies in the hole does not matter.
        hole: (H,W), bool.
    """
    image = torch.where(hole, 0, image)
    beside = torch.from_numpy(_distances(~hole))
    points = _some(((beside > 0) & (beside <= 1)).nonzero().flip(1)).float()
    found: list[Line] = []
    if len(points) > 1:
        pairs = _pairs(points, _edges(points, image, beside), hole)
        for number in pairs.likely.argsort(descending=True)[:_MOST_TRIED].tolist():
            ends = points[torch.stack([pairs.first[number], pairs.second[number]])]
            line = Line(ends, float(pairs.angle[number]), torch.empty(0), float(pairs.likely[number]))
            if _is_under(line, hole) and not any(_collide(line, other) for other in found):
                colors = _colors_across(line, image, beside)
                if colors is not None and _is_edge(colors):
                    found.append(line._replace(colors=colors))
    return found


def drawn(image: Tensor, hole: Tensor, lines: Sequence[Line]) -> tuple[Tensor, Tensor]:
    """A picture (3,H,W) with lines drawn into its hole, and where they are; (H,W), bool."""
    image, where = image.clone(), torch.zeros_like(hole)
    places = hole.nonzero()
    for line in reversed(lines):  # the likeliest last
        first, second = line.ends
        length = (second - first).norm()
        along = (second - first) / length
        offset = places.flip(1) - first
        share = offset @ along / length
        aside = offset @ torch.stack([-along[1], along[0]])
        slope = math.tan(line.angle)
        aside = (aside - slope * length * share * (1 - share)) / (1 + (slope * (1 - 2 * share)).square()).sqrt()
        on = ((aside.abs() <= _DRAWN) & (share >= -1 / length) & (share <= 1 + 1 / length)).nonzero()[:, 0]
        position = (aside[on] + _ASIDE).clamp(0, 2 * _ASIDE - 1e-4)
        low = position.floor().long()
        one, other = (torch.lerp(each[low], each[low + 1], (position - low)[:, None]) for each in line.colors)
        y, x = places[on].T
        image[:, y, x] = torch.lerp(one, other, share[on].clamp(0, 1)[:, None]).T
        where[y, x] = True
    return image, where


def _some(points: Tensor) -> Tensor:
    """Of points (n,2) not too many, evenly: one in each cell of a grid."""
    kept, side = points, 1
    while len(kept) > _MOST_POINTS:
        side += 1
        cells, cell = torch.unique(points // side, dim=0, return_inverse=True)
        first = torch.full((len(cells),), len(points)).scatter_reduce(0, cell, torch.arange(len(points)), "amin")
        kept = points[first.sort().values]
    return kept


def _edges(points: Tensor, image: Tensor, beside: Tensor) -> _Edges:
    """What is seen from points (P,2) of the rim, x and y.

    Args:
        points: see there.
        image: (3,H,W), 0 in the hole.
        beside: how far each pixel is from the hole; (H,W).
    """
    known = (beside > 0).float()
    colors = _blurred(image) / _blurred(known).clamp(min=1e-3)
    clean = (beside >= _UNCLEAN).float()
    clean[[0, -1]] = 0
    clean[:, [0, -1]] = 0
    steps = torch.zeros(2, *image.shape)
    steps[0, :, :, 1:-1] = (colors[:, :, 2:] - colors[:, :, :-2]) / 2
    steps[1, :, 1:-1] = (colors[:, 2:] - colors[:, :-2]) / 2
    steps_of, colors_of = (_layered((each * clean).flatten(0, -3), clean) for each in (steps, colors))
    headings = torch.arange(_HEADINGS) * (2 * math.pi / _HEADINGS)
    bends = torch.arange(-_BENDS, _BENDS + 1) * _BEND
    outward = torch.arange(_SAMPLES) * _SAMPLE + _BEYOND
    found = []
    for some in torch.split(points, _AT_ONCE):
        breathe()
        shape = len(some), _HEADINGS, len(bends)
        starts = some[:, None, None].expand(*shape, 2).reshape(-1, 2)
        heading, bend = (each.expand(shape).flatten() for each in (headings[:, None], bends))
        at, toward = _arc(starts, heading, bend, outward)
        read = _read(steps_of, at)
        along_x, along_y, seen = read[..., :3], read[..., 3:6], read[..., 6]
        across = along_y * toward.cos()[..., None] - along_x * toward.sin()[..., None]
        count = seen.sum(dim=1)
        step = across.sum(dim=1) / count.clamp(min=1)[:, None]
        every = along_x.square().sum(dim=(1, 2)) + along_y.square().sum(dim=(1, 2))
        clear = (step.square().sum(dim=1) * count / every.clamp(min=1e-12)).clamp(max=1)
        clear *= count >= _LEAST_SEEN * _SAMPLES
        sides = torch.zeros(len(clear), 2, 3)
        which = (clear >= _LEAST).nonzero()[:, 0]
        for side, aside in enumerate((-_ASIDE, _ASIDE)):
            read = _read(colors_of, at[which] + aside * _aside(toward[which])).sum(dim=1)
            sides[which, side] = read[:, :3] / read[:, 3:].clamp(min=1e-3)
            clear[which] *= read[:, 3] >= 1
        found.append(_Edges(clear, step, sides))
    return _Edges(*(torch.cat(each) for each in zip(*found, strict=True)))


def _pairs(points: Tensor, edges: _Edges, hole: Tensor) -> _Pairs:
    """Points between which an edge may go on under a hole, and how likely that is.

    Args:
        points: of the rim, x and y; (P,2).
        edges: what is seen from them.
        hole: (H,W), bool.
    """
    first, second = torch.triu_indices(len(points), len(points), 1)
    chord = points[second] - points[first]
    length = chord.norm(dim=1)
    middle = points[first, None] + chord[:, None] * torch.tensor([0.3, 0.5, 0.7])[:, None]
    x, y = middle.round().long().unbind(dim=-1)
    which = ((length >= _SHORTEST) & (hole[y, x].float().mean(dim=1) > 0.5)).nonzero()[:, 0]  # noqa: PLR2004
    first, second, chord, length = first[which], second[which], chord[which], length[which]
    likely, angle, far = torch.zeros(len(which)), torch.zeros(len(which)), torch.exp(-length / _FAR)
    for degrees, some, one, other in _arcs(first, second, chord, length, edges):
        clear = edges.clear[one] * edges.clear[other]
        step, next_step = -edges.step[one], edges.step[other]  # seen from its end the first runs the other way
        least, most = torch.stack([step.norm(dim=1), next_step.norm(dim=1)]).aminmax(dim=0)
        alike = (step * next_step).sum(dim=1) / (least * most).clamp(min=1e-12)
        sides, next_sides = edges.sides[one].flip(1), edges.sides[other]
        steps = (sides[:, 0] - sides[:, 1]).square().sum(dim=1) + (next_sides[:, 0] - next_sides[:, 1]).square().sum(1)
        differ = (sides - next_sides).square().sum(dim=(1, 2)) / steps.clamp(min=1e-6)
        found = clear * alike.clamp(min=0).square() * least / most.clamp(min=1e-9) * least / (least + _FAINT)
        found *= torch.exp(-_DIFFER * differ - (degrees / _STRAIGHT) ** 2) * far[some]
        more = found > likely[some]
        likely[some[more]], angle[some[more]] = found[more], math.radians(degrees)
    which = (likely >= _LEAST).nonzero()[:, 0]
    return _Pairs(first[which], second[which], angle[which], likely[which])


def _arcs(
    first: Tensor, second: Tensor, chord: Tensor, length: Tensor, edges: _Edges
) -> Iterator[tuple[float, Tensor, Tensor, Tensor]]:
    """For each angle that arcs may have to their chord: it, pairs (k,) with edges at both ends, and these edges."""
    bends = 2 * _BENDS + 1
    toward = torch.atan2(chord[:, 1], chord[:, 0])
    for degrees in range(-_STEEPEST, _STEEPEST + 1, _TURN):
        angle = math.radians(degrees)
        bend = (2 * math.sin(angle) / length / _BEND).round().long()
        leaving, entered = (
            (each * (_HEADINGS / (2 * math.pi))).round().long() % _HEADINGS
            for each in (toward + angle + math.pi, toward - angle)
        )
        possible = bend.abs() <= _BENDS
        bend.clamp_(-_BENDS, _BENDS)
        one = (first * _HEADINGS + leaving) * bends + _BENDS + bend
        other = (second * _HEADINGS + entered) * bends + _BENDS - bend
        some = (possible & (picked(edges.clear, one) * picked(edges.clear, other) >= _LEAST)).nonzero()[:, 0]
        yield degrees, some, one[some], other[some]


def _is_under(line: Line, hole: Tensor) -> bool:
    """Whether a line lies in the hole, (H,W), its ends aside."""
    x, y = line.at(torch.linspace(0.12, 0.88, 12)).round().long().T
    height, width = hole.shape
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    return bool(inside.all()) and float(hole[y, x].float().mean()) >= _INSIDE


def _collide(one: Line, other: Line) -> bool:
    """Whether two lines cross, or end at the same place."""
    (a, b), (c, d) = one.ends.tolist(), other.ends.tolist()
    if min(math.dist(*both) for both in ((a, c), (a, d), (b, c), (b, d))) < _APART:
        return True
    return _turn(a, b, c) * _turn(a, b, d) < 0 and _turn(c, d, a) * _turn(c, d, b) < 0


def _turn(a: Sequence[float], b: Sequence[float], c: Sequence[float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _colors_across(line: Line, image: Tensor, beside: Tensor) -> Tensor | None:
    """The colors across a line at both its ends, (2,n,3); None where they are not all seen."""
    seen = (beside >= _BEYOND).float()
    colors = _layered(image * seen, seen)
    first, second = line.ends
    chord = second - first
    toward, bend = torch.atan2(chord[1], chord[0]), 2 * math.sin(line.angle) / chord.norm()
    asides, outward = torch.arange(-_ASIDE, _ASIDE + 1.0), torch.arange(_ALONG) + _BEYOND
    found = []
    for end, heading, bent, side in (
        (first, toward + line.angle + math.pi, bend, -1),
        (second, toward - line.angle, -bend, 1),
    ):
        at, there = _arc(end[None], heading[None], bent[None], outward)
        read = _read(colors, at + side * asides[:, None, None] * _aside(there)).sum(dim=1)
        if float(read[:, 3].min()) < 1:
            return None
        found.append(read[:, :3] / read[:, 3:])
    return torch.stack(found)


def _is_edge(colors: Tensor) -> bool:
    """Whether colors across a line, (2,n,3), change most in their middle, at both ends: not evenly, nor beside it."""
    steps = (colors[:, 2:] - colors[:, :-2]).square().sum(dim=-1)
    peak, at = steps.max(dim=1)
    in_the_middle = (at - steps.shape[1] // 2).abs() <= _OFF
    return bool((in_the_middle & (peak >= _PEAK * steps.mean(dim=1))).all())


def _arc(starts: Tensor, heading: Tensor, bend: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
    """Places (n,T,2) and headings (n,T) on arcs from starts (n,2), which head somewhere and bend, (n,) each."""
    forward, aside = torch.stack([heading.cos(), heading.sin()], dim=-1), _aside(heading)
    far = (bend[:, None] * along.square() / 2)[..., None]
    places = starts[:, None] + along[:, None] * forward[:, None] + far * aside[:, None]
    return places, heading[:, None] + bend[:, None] * along


def _aside(heading: Tensor) -> Tensor:
    """Where growing headings turn to; (...,2), x and y."""
    return torch.stack([-heading.sin(), heading.cos()], dim=-1)


def _layered(x: Tensor, known: Tensor) -> Tensor:
    """A picture (C,H,W) and where it is known, (H,W), to read pixels from; (H,W,C+1)."""
    return torch.cat([x, known[None]]).permute(1, 2, 0).contiguous()


def _read(layered: Tensor, at: Tensor) -> Tensor:
    """The nearest pixels to places (...,2), 0 where there are none; (...,C)."""
    height, width = layered.shape[:2]
    columns, rows = at.round().long().unbind(dim=-1)
    inside = (columns >= 0) & (rows >= 0) & (columns < width) & (rows < height)
    index = rows.clamp(0, height - 1).mul_(width).add_(columns.clamp(0, width - 1))
    return picked(layered.flatten(0, 1), index) * inside[..., None]


def _blurred(x: Tensor) -> Tensor:
    blurred: Any = gaussian_filter(x.numpy(), (0,) * (x.ndim - 2) + (_SMOOTHED, _SMOOTHED), mode="nearest", truncate=3)
    return torch.from_numpy(blurred)


def _distances(where: Tensor) -> Any:
    return distance_transform_edt(where.numpy())
