"""The patches of one picture: which known one is most like each that reaches into the hole, and what they say together.

Sources: Wexler, Shechtman and Irani, "Space-Time Completion of Video", PAMI 2007 (search and vote); Barnes et al.,
"PatchMatch", SIGGRAPH 2009 (how to search); Newson et al., "Video Inpainting of Complex Scenes", SIAM Journal on
Imaging Sciences 2014 (texture beside color, without which fills become smooth).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional

from refiner.exemplar.laplace import harmonic_fill
from refiner.exemplar.locality import locality
from refiner.exemplar.matching import most_alike
from refiner.exemplar.nodes import picked
from refiner.exemplar.progress import unheard
from refiner.regions import dilated

if TYPE_CHECKING:
    from collections.abc import Callable

    from refiner.exemplar.locality import Locality
    from refiner.exemplar.matching import Pairs
    from refiner.exemplar.palette import Palette
    from refiner.exemplar.progress import OnStep
    from refiner.exemplar.views import Views

_RADIUS = 3  # of a patch, in pixels
_SIDE = 2 * _RADIUS + 1
_DIMENSIONS = 24  # of a patch's principal components that are compared
_CONVOLVED = 6  # of these at once
_SAMPLE = 3000  # patches that the components are found from
_TEXTURE_WEIGHT = 8.0  # of a step between pixels, against a color
_COMPARED = 1 << 24  # of patches that are all compared with one another: more, and some are tried
_MATCHED = 6  # rounds of search for a fill that is not changed
_JUDGED = 1 << 23  # the same, where a fill is judged: more, and some of the targets are left out
_AT_ONCE = 1 << 22  # of these: bounds memory
_NEAR = 40.0  # pixels within which patches are looked for that go on across what is thin
_DRAWN_NEAR = 8  # of these, at random, to begin with
_BEGUN_ROUNDS = 2
_BEGUN_AT_ONCE = 1 << 13  # whole patches that are compared at once: bounds memory
_ROUNDS = (8, 3)  # of search and vote, where all patches are compared and where some are tried
_NEAR_ROUNDS = 2  # where those near by are tried
_OVERUSED = 0.5  # cost of a patch for each time too often that it is taken, against what half the targets have
_MOST_OVERUSED = 8.0  # times, beyond which it costs no more
_MATCHES = 256  # patches that are matched, to learn where like ones lie
_PRICED = 64  # and to learn what that costs
_BESIDE_HOLE = 7  # pixels that like patches lie apart at least, beside a hole's depth
_SETTLED = 1e-3  # change of a round, in the mean, after which a level is done
_JUMPS = (8, 4, 2, 1)  # pixels away, where a patch's neighbors are asked
_CONFIDENCE = 1.3  # by how much a patch counts less for each pixel that it is farther from the rim
_DEEPEST = 20.0  # pixels, beyond which it counts no less
_QUANTILE = 0.75  # of patches' distances, that is the scale of similarity
_VOTED = 1 << 14  # pixels that are voted for at once: bounds memory

_Distance: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"  # of targets, by number, to patches; squared, (k,)


class Scene(NamedTuple):
    """A picture to be searched.

    Attributes:
        palette: the picture and what of it may be copied, nothing of its hole.
        texture: see `texture_of` and `texture_without_edges`; (2,H,W).
    """

    palette: Palette
    texture: Tensor


@dataclass(frozen=True)
class Found:
    """What a search found at a level, for each pixel of the hole, row by row.

    Attributes:
        hole: (H,W), bool.
        looks: what patches say together: colors, and texture times its weight; (n,5).
        shifts: how far away the patch lies that is most like the one around it; (n,2), rows and columns.
    """

    hole: Tensor
    looks: Tensor
    shifts: Tensor

    def moved(self, views: Views, kept: Views) -> Found:
        """The same where other views of the photo are left, moved together."""
        columns = self.hole.nonzero()[:, 1]
        moved = views.moved(columns + self.shifts[:, 1], kept) - columns
        return Found(self.hole, self.looks, torch.stack([self.shifts[:, 0], moved], dim=1))

    def within(self, hole: Tensor) -> Found:
        """What was found of a smaller hole."""
        inside = hole[self.hole]
        return Found(hole, self.looks[inside], self.shifts[inside])

    @property
    def colors(self) -> Tensor:
        """(n,3)."""
        return self.looks[:, :3]

    @property
    def texture(self) -> Tensor:
        """Texture, as that of the scene; (n,2)."""
        return self.looks[:, 3:] / _TEXTURE_WEIGHT


class Patches:
    """A level's patches: those to copy from, and the targets, which reach into the hole.

    A patch is known by the index of its middle, row by row: a target in the picture, one to copy from in the palette.

    Args:
        scene: the level.
        random: draws the patches that components are found from.
        hold: how much a patch's mean color counts, against the one that the rim suggests.
        near: of a thin hole, whose scene goes on beside it: where not all patches are compared, those far away are not
            tried either.
        local: where like patches lie, which counts too; None where it does not.

    Attributes:
        size: H, W.
        at: rows and columns of the targets; (m,) each.
        hole: (H,W), bool.
        possible: whether there are enough patches to copy from.
    """

    def __init__(
        self,
        scene: Scene,
        random: torch.Generator,
        hold: float = 0.0,
        *,
        near: bool = False,
        local: Locality | None = None,
    ) -> None:
        self._palette = palette = scene.palette
        self.hole = ~palette.known
        self.size = height, width = self.hole.shape[0], self.hole.shape[1]
        self._look = looks_of(palette.image, scene.texture)
        copied = palette.spread(self._look)
        self._table = copied.flatten(1).T.contiguous()
        line = torch.arange(-_RADIUS, _RADIUS + 1)
        self._rows, self._columns = torch.cartesian_prod(line, line).T
        self._steps = self._rows * palette.width + self._columns
        self._may = (~dilated(~palette.spread(palette.source), _RADIUS) & _inner(height, palette.width)).flatten()
        sources = self._may.nonzero()[:, 0]
        mirrored = palette.mirrored(sources % palette.width)
        self._sources = torch.cat([sources[~mirrored], sources[mirrored]])
        self._unmirrored = len(sources) - int(mirrored.sum())
        self._count = len(self._sources)
        self._pixels = self.hole.flatten().nonzero()[:, 0]
        self._targets = (dilated(self.hole, _RADIUS) & _inner(height, width)).flatten().nonzero()[:, 0]
        self.at = self._targets // width, self._targets % width
        self._number = torch.full((height * width,), -1)
        self._number[self._targets] = torch.arange(len(self._targets))
        depth = torch.from_numpy(distance_transform_edt(self.hole.numpy())).flatten()[self._targets]
        self._apart = math.ceil(float(depth.max())) + _BESIDE_HOLE if len(depth) else 0
        self._confidence = _CONFIDENCE ** -depth.clamp(max=_DEEPEST).float()
        self._reach = _NEAR if near else max(height, palette.width)
        self._tried_rounds = _NEAR_ROUNDS if near else _ROUNDS[1]
        self._all_compared = self._count * len(self._targets) <= _COMPARED
        self.possible = self._count > _DIMENSIONS and len(self._targets) > 0
        if self.possible:
            self._components = self._principal(random)
            # (H*P,C), a few components at a time: all at once would be there twice.
            self._known = torch.empty(height * palette.width, _DIMENSIONS + 3 * (hold > 0) + 2 * (local is not None))
            self._expected = torch.empty(len(self._targets), self._known.shape[1] - _DIMENSIONS)
            for some in torch.split(torch.arange(_DIMENSIONS), _CONVOLVED):
                known = functional.conv2d(copied[None], self._components[some], padding=_RADIUS)
                self._known[:, some] = known[0].flatten(1).T
            if hold:  # compared like components: the mean color of a patch
                around = _SIDE * hold**0.5
                mean = functional.avg_pool2d(copied[None, :3], _SIDE, 1, _RADIUS)
                self._known[:, _DIMENSIONS : _DIMENSIONS + 3] = around * mean[0].flatten(1).T
                suggested = harmonic_fill(palette.image, self.hole).flatten(1)[:, self._targets]
                self._expected[:, :3] = around * suggested.T
            if local is not None:  # and so is its place
                scales = local.scales(self.size, self._alike(_PRICED, random).cost)
                axes = torch.meshgrid(*(torch.arange(float(side)) for side in self.size), indexing="ij")
                for column, scale, axis in zip((-2, -1), scales, axes, strict=True):
                    self._known[:, column] = scale * palette.spread(axis).flatten()
                    self._expected[:, column] = scale * axis.flatten()[self._targets]

    def locality(self, random: torch.Generator) -> Locality:
        """Where like patches lie, of the photo itself and what of it is known."""
        return locality(self._alike(_MATCHES, random), self._photo_places[0], self.size, self._apart, random)

    def settled(self, fill: Tensor, nearest: Tensor | None, random: torch.Generator, on_step: OnStep) -> Found:
        """Search and vote, from a fill (n,5) and perhaps patches (m,) that it is made of, until it hardly changes."""
        rounds = _ROUNDS[0] if self._all_compared else self._tried_rounds
        nearest = self._drawn(len(self._targets), random) if nearest is None else nearest
        dearer: Tensor | None = None
        for done in range(rounds):
            nearest, cost = self._search(self._wanted(fill), nearest, random, dearer)
            before, fill = fill, self._vote(nearest, cost)
            if on_step((done + 1) / rounds) or float((fill - before)[:, :3].abs().mean()) < _SETTLED:
                break
            overused = self._overused(nearest, cost)
            dearer = overused if dearer is None else overused.add_(dearer).div_(2)  # or all would change at once
        return Found(self.hole, fill, self._shifts(nearest))

    def begun(self, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """A first fill (n,5) of a hole so thin that patches reach across it, and the targets' patches (m,).

        Patches are compared by the colors that are known of the target. They are looked for near by: what is thin hides
        what goes on right beside it.
        """
        which = torch.arange(len(self._targets))
        rows = (self.at[0][:, None] + self._rows).clamp(0, self.size[0] - 1)
        columns = (self.at[1][:, None] + self._columns).clamp(0, self.size[1] - 1)
        at = rows * self.size[1] + columns
        known = (~self.hole).flatten()[at].float()
        counts = known[:, :, None].expand(*known.shape, 3).reshape(-1, _SIDE, 3 * _SIDE)
        own = self._palette.image.flatten(1).T[at].view_as(counts)
        # A patch's rows lie in a picture as they are: read whole, four times as fast as pixel by pixel.
        colors = self._colors
        runs = colors.as_strided((len(colors) - _SIDE + 1, 3 * _SIDE), (3, 1))
        first = torch.arange(-_RADIUS, _RADIUS + 1) * self._palette.width - _RADIUS

        def distance(targets: Tensor, place: Tensor) -> Tensor:
            parts = []
            for some in torch.split(torch.arange(len(targets)), _BEGUN_AT_ONCE):
                i = targets[some]
                patch = picked(runs, place[some, None] + first)
                parts.append(patch.sub_(picked(own, i)).square_().mul_(picked(counts, i)).sum(dim=(1, 2)))
            return torch.cat(parts)

        nearest = self._drawn(len(which), random)
        cost = distance(which, nearest)
        for _ in range(_DRAWN_NEAR):
            drawn = ((2 * torch.rand(2, len(which), generator=random) - 1) * _NEAR).round().long()
            self._offer(distance, nearest, cost, self.at[0] + drawn[0], self.at[1] + drawn[1])
        for _ in range(_BEGUN_ROUNDS):
            self._ask_neighbors(distance, nearest, cost)
            self._draw_closer(distance, nearest, cost, _NEAR, random)
        return self._vote(nearest, cost / known.sum(dim=1).clamp(min=1)), nearest

    def enlarged(self, before: Found, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """What was found at a level of about half the size, here: the fill (n,5) and the targets' patches (m,)."""
        small = before.hole.shape
        index: Any = distance_transform_edt(~before.hole.numpy(), return_distances=False, return_indices=True)
        nearest_row, nearest_column = torch.from_numpy(index).long()
        shifts = torch.zeros(*small, 2, dtype=torch.long)
        shifts[before.hole] = before.shifts
        at = [
            (own * there // here).clamp(max=there - 1)
            for own, there, here in zip(self.at, small, self.size, strict=True)
        ]
        shift = 2 * shifts[nearest_row[at[0], at[1]], nearest_column[at[0], at[1]]]
        place, may = self._places(self.at[0] + shift[:, 0], self.at[1] + shift[:, 1])
        place[~may] = self._drawn(int((~may).sum()), random)
        return self._vote(place, (~may).float()), place

    def matched(self, fill: Tensor, random: torch.Generator) -> Found:
        """The patches most like those of a fill (3,H,W) that has the texture that the rim suggests."""
        looks = torch.cat([fill, self.suggested_texture])[:, self.hole].T
        nearest = self._drawn(len(self._targets), random)
        for _ in range(_MATCHED):
            nearest, _cost = self._search(self._wanted(looks), nearest, random)
        return Found(self.hole, looks, self._shifts(nearest))

    def looks(self, copied: Tensor) -> Tensor:
        """Of pixels of the palette, (n,), their looks, (n,5)."""
        return self._table[copied]

    def picture(self, at: Tensor, looks: Tensor) -> Tensor:
        """The looks of the whole picture, with these, (n,5), at some of its pixels, (n,); (5,H,W)."""
        picture = self._look.clone()
        picture.flatten(1)[:, at] = looks.T
        return picture

    @cached_property
    def _colors(self) -> Tensor:
        """Of the palette's pixels; (H*P,3)."""
        return self._table[:, :3].contiguous()

    @cached_property
    def suggested_texture(self) -> Tensor:
        """The texture that the rim suggests, times its weight, in the whole picture; (2,H,W)."""
        return harmonic_fill(self._look[3:], self.hole)

    def faults(self, fill: Tensor) -> tuple[Tensor, Tensor]:
        """Which targets, some where they are many, and how far each is from the patch most like it, squared."""
        every = max(-(-self._count * len(self._targets) // _JUDGED), 1)
        which = torch.arange(0, len(self._targets), every)
        return which, self._compare_all(self._wanted(fill), which)[1]

    def _shifts(self, nearest: Tensor) -> Tensor:
        """Of each pixel of the hole, how far the patch nearest to its own lies; (n,2)."""
        height, width = self.size
        # At the picture's edges no patch has its middle: the nearest that has one.
        rows = (self._pixels // width).clamp(_RADIUS, height - _RADIUS - 1)
        columns = (self._pixels % width).clamp(_RADIUS, width - _RADIUS - 1)
        place = nearest[self._number[rows * width + columns]]
        copied = self._palette.width
        return torch.stack([place // copied - rows, place % copied - columns], dim=1)

    def _search(
        self, wanted: Tensor, nearest: Tensor, random: torch.Generator, dearer: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Of each target, a patch like it, and the squared distance to it; (m,) each.

        Args:
            wanted: of each target, what it is compared by.
            nearest: a patch for each, to begin with where not all are compared.
            random: draws.
            dearer: what it costs besides to take a patch; (H*P,). None for nothing.
        """
        if self._all_compared:
            nearest, cost = self._compare_all(wanted, dearer=dearer)
        else:
            nearest, cost = self._improve(wanted, nearest, random, dearer)
        return nearest, cost if dearer is None else cost.sub_(picked(dearer, nearest)).clamp_(min=0)

    def _overused(self, nearest: Tensor, cost: Tensor) -> Tensor:
        """What it costs to take patches that more targets have taken than there are for each, or others beside them.

        What is smooth is like much, and would be taken by all; the same blades would come back along a whole meadow.

        Args:
            nearest: the targets' patches, (m,).
            cost: how far each is from its target, squared; (m,).

        Returns:
            (H*P,).
        """
        height, width = self.size[0], self._palette.width
        taken = torch.bincount(nearest, minlength=height * width).float().view(1, 1, height, width)
        taken = functional.avg_pool2d(taken, _SIDE, 1, _RADIUS).flatten()
        due = max(len(self._targets) / self._count, 1)
        return taken.div_(due).sub_(1).clamp_(0, _MOST_OVERUSED).mul_(_OVERUSED * cost.median())

    def _alike(self, count: int, random: torch.Generator) -> Pairs:
        """Some of the photo's own patches, and those most like them farther off than the hole is deep."""
        places, mine = self._photo_places
        asked = torch.randperm(len(mine), generator=random)[:count]
        line = torch.arange(1 - self._apart, self._apart)
        too_near = torch.cartesian_prod(line, line)
        return most_alike(self._known[mine, :_DIMENSIONS], places, asked, torch.arange(len(mine)), too_near, unheard)

    @cached_property
    def _photo_places(self) -> tuple[Tensor, Tensor]:
        """Rows and columns of the photo's own patches, not of other views, (m,2), and their indices, (m,)."""
        rows, columns = self._sources // self._palette.width, self._sources % self._palette.width
        mine = columns < self.size[1]
        return torch.stack([rows[mine], columns[mine]], dim=1), self._sources[mine]

    def _drawn(self, count: int, random: torch.Generator) -> Tensor:
        """Patches to copy from, at random."""
        return self._sources[torch.randint(self._count, (count,), generator=random)]

    def _places(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Indices of the patches at places of the palette, one for each target, and whether it may copy it; (m,)."""
        height, width = self.size[0], self._palette.width
        within = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
        place = rows * width + columns
        may = within & picked(self._may, place)
        if self._palette.views.mirrored:
            may &= self._palette.apart(*self.at, rows, columns)
        return place, may

    def _wanted(self, fill: Tensor) -> Tensor:
        """The components of the targets, where the hole looks so; (m,24)."""
        look = self._look.clone()
        look.flatten(1)[:, self._pixels] = fill.T
        top, left, bottom, right = (int(end) for end in (*(at.min() for at in self.at), *(at.max() for at in self.at)))
        window = look[:, top - _RADIUS : bottom + _RADIUS + 1, left - _RADIUS : right + _RADIUS + 1]
        components = functional.conv2d(window[None], self._components)[0]
        components = components[:, self.at[0] - top, self.at[1] - left].T
        return torch.cat([components, self._expected], dim=1)

    def _compare_all(
        self, wanted: Tensor, among: Tensor | None = None, dearer: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Of each target, the patch most like it, and the squared distance to it; (m,) each."""
        known = self._known[self._sources]
        squares = known.square().sum(dim=1)
        if dearer is not None:
            squares += dearer[self._sources]
        nearest, costs = [], []
        mirrored = self._sources[self._unmirrored :]
        place = mirrored // self._palette.width, mirrored % self._palette.width
        among = torch.arange(len(wanted)) if among is None else among
        for which in torch.split(among, max(_AT_ONCE // self._count, 1)):
            some = wanted[which]
            distance = torch.addmm(squares[None], some, known.T, alpha=-2)
            if len(mirrored):
                at = self.at[0][which, None], self.at[1][which, None]
                distance[:, self._unmirrored :].masked_fill_(~self._palette.apart(*at, *place), torch.inf)
            least, index = distance.min(dim=1)
            nearest.append(self._sources[index])
            costs.append((least + some.square().sum(dim=1)).clamp(min=0))
        return torch.cat(nearest), torch.cat(costs)

    def _improve(
        self, wanted: Tensor, nearest: Tensor, random: torch.Generator, dearer: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The same, of what is tried: what the neighbors have found, and what is drawn at random ever closer."""

        def distance(targets: Tensor, place: Tensor) -> Tensor:
            apart = picked(wanted, targets).sub_(picked(self._known, place)).square_().sum(dim=1)
            return apart if dearer is None else apart.add_(picked(dearer, place))

        nearest = nearest.clone()
        cost = distance(torch.arange(len(nearest)), nearest)
        self._ask_neighbors(distance, nearest, cost)
        self._draw_closer(distance, nearest, cost, self._reach, random)
        return nearest, cost

    def _ask_neighbors(self, distance: _Distance, nearest: Tensor, cost: Tensor) -> None:
        """Offer each target what targets beside it have found; changes `nearest` and `cost`."""
        width = self._palette.width
        for jump in _JUMPS:
            for down, right in ((0, jump), (0, -jump), (jump, 0), (-jump, 0)):
                neighbor, _ = self._targets_at(self.at[0] - down, self.at[1] - right)
                place = picked(nearest, neighbor.clamp(min=0))
                rows = torch.where(neighbor >= 0, place // width + down, -1)
                self._offer(distance, nearest, cost, rows, place % width + right)

    def _draw_closer(
        self, distance: _Distance, nearest: Tensor, cost: Tensor, reach: float, random: torch.Generator
    ) -> None:
        """Offer patches at random, from so many pixels around what was found to ever nearer ones; changes both."""
        width = self._palette.width
        while reach >= 1:
            drawn = ((2 * torch.rand(2, len(nearest), generator=random) - 1) * reach).round().long()
            self._offer(distance, nearest, cost, nearest // width + drawn[0], nearest % width + drawn[1])
            reach /= 2

    def _offer(self, distance: _Distance, nearest: Tensor, cost: Tensor, rows: Tensor, columns: Tensor) -> None:
        """Take patches at these places where they are more like the targets; changes `nearest` and `cost`."""
        place, may = self._places(rows, columns)
        which = (may & (place != nearest)).nonzero()[:, 0]
        offered = distance(which, picked(place, which))
        better = offered < picked(cost, which)
        which = which[better]
        nearest[which], cost[which] = place[which], offered[better]

    def _vote(self, nearest: Tensor, cost: Tensor) -> Tensor:
        """What the targets over each pixel of the hole say that it looks like; (n,C).

        A second count leaves out what differs from the first: the mean of two things is neither.
        """
        sample = cost[:: max(len(cost) // _SAMPLE, 1)]
        scale = torch.quantile(sample, _QUANTILE).clamp(min=1e-6)
        weights = torch.exp(-cost / (2 * scale)) * self._confidence + 1e-9
        means = []
        for pixels in torch.split(self._pixels, _VOTED):
            rows, columns = pixels // self.size[1], pixels % self.size[1]
            voter, there = self._targets_at(rows[:, None] - self._rows, columns[:, None] - self._columns)
            voter = voter.clamp(min=0)
            place = torch.where(there, picked(nearest, voter) + self._steps, 0)
            weight = torch.where(there, picked(weights, voter), 0)
            mean = self._mean(place, weight)
            apart = (picked(self._colors, place) - mean[:, None, :3]).square_().sum(dim=2)
            spread = (apart * weight).sum(dim=1, keepdim=True) / weight.sum(dim=1, keepdim=True).clamp(min=1e-12)
            means.append(self._mean(place, weight * torch.exp(-apart / (spread + 2e-5)) + 1e-12 * there))
        return torch.cat(means)

    def _mean(self, place: Tensor, weight: Tensor) -> Tensor:
        total: Tensor = functional.embedding_bag(place, self._table, mode="sum", per_sample_weights=weight)
        return total / weight.sum(dim=1, keepdim=True).clamp(min=1e-12)

    def _principal(self, random: torch.Generator) -> Tensor:
        """Principal components of the patches, as a convolution; (24,C,7,7)."""
        some = self._sources[torch.randperm(self._count, generator=random)[:_SAMPLE]]
        sample = self._table[some[:, None] + self._steps].movedim(2, 1).flatten(1)
        sample = sample - sample.mean(dim=0)
        components = torch.linalg.eigh(sample.T @ sample).eigenvectors[:, -_DIMENSIONS:]
        principal: Tensor = components.T.reshape(_DIMENSIONS, -1, _SIDE, _SIDE).contiguous()
        return principal

    def _targets_at(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers of the targets at places, -1 where there is none, and whether there is one."""
        height, width = self.size
        within = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        number = picked(self._number, rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1))
        number = torch.where(within, number, -1)
        return number, number >= 0


def looks_of(image: Tensor, texture: Tensor) -> Tensor:
    """What patches are compared by: colors (3,H,W), and texture (2,H,W) times its weight; (5,H,W)."""
    return torch.cat([image, _TEXTURE_WEIGHT * texture])


def _inner(height: int, width: int) -> Tensor:
    """Where the middle of a patch can lie; (H,W), bool."""
    inner = torch.zeros(height, width, dtype=torch.bool)
    inner[_RADIUS : height - _RADIUS, _RADIUS : width - _RADIUS] = True
    return inner
