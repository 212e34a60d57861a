"""Structure from patches, pixels from copies: where a hole hides structure, copies go by patches searched for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from refiner.exemplar.appearance import along_lines, like_found, like_given, like_rim
from refiner.exemplar.energy import FORBIDDEN, Energy
from refiner.exemplar.judging import Judge, Verdict
from refiner.exemplar.offsets import dominant_offsets
from refiner.exemplar.palette import Palette
from refiner.exemplar.patch_search import (
    PatchSearch,
    reduced,
    search_across,
    search_larger,
    texture_without_edges,
    where_like_lie,
)
from refiner.exemplar.patches import Found, Scene
from refiner.exemplar.perspective import offsets_in_perspective
from refiner.exemplar.progress import part
from refiner.exemplar.shift_map import (
    choose_shifts,
    follow_found,
    follow_nearby,
    frequent,
    joined,
    nearest_source,
)
from refiner.exemplar.views import SCALED, Views
from refiner.regions import dilated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from refiner.exemplar.locality import Locality
    from refiner.exemplar.nodes import Nodes
    from refiner.exemplar.progress import OnStep

SEARCHED = 300_000  # pixels of a level that is searched, at most
_ACROSS = 600_000  # the same, where the hole is thin
_UNCLEAN = 2  # pixels beside a hole, at the smallest level, that are searched for too
_CROSSED = 2.0  # pixels from rim to middle, at the level where a thin hole is searched
_THIN = 6.0  # pixels from rim to middle, to which patches reach across: both sides tell what is hidden
_MOSTLY, _MOSTLY_THIN = (
    0.9,
    4.0,
)  # or this share of the hole is nearer to the rim: where strokes of letters meet, they are deep
_ASTRAY = 0.1  # cost of an offset that no vanishing point suggests, where there is one
_LEAST_STRAIGHT = 0.3  # of a part of the hole, for it to go on toward a vanishing point
_HARDLY_MORE = 1.2  # of the energy of offsets that are free
_ASTRAY_FAULTS = 1.5  # of their faults: so many more, and the vanishing point is not that of what the hole hides
_LIKING = 1.5  # how much more faults of patches count with odd seeds, and less with even ones; with 0 as they are
_CLEARLY = 0.7  # of the faults of what goes on toward a vanishing point, for patches to be taken that cost less too
_RUBBLE = 0.9  # of faults times energy: so much less with less of the texture beside the hole, and it is not asked for


class _Begun(NamedTuple):
    """A shift map by offsets.

    Attributes:
        energy: what shows at the rim and at seams, of its nodes.
        shifts: toward a vanishing point, where that costs hardly more; (n,2).
        straight: which nodes these are; (n,), bool.
        free: the shifts by which no point is kept in place; (n,2).
    """

    energy: Energy
    shifts: Tensor
    straight: Tensor
    free: Tensor


class Structure:
    """The shift maps of a photo's levels as far as patches are searched for its hole.

    Args:
        image: (3,H,W), of the largest level that is searched: its texture tells what smaller ones have lost.
        hole: (H,W), bool.
        seed: of what is drawn at random.
        across: the size of the level at which patches are searched that reach across the hole, see
            `size_to_search_across`; None where none do.
    """

    def __init__(self, image: Tensor, hole: Tensor, seed: int, across: tuple[int, int] | None = None) -> None:
        self._texture, self._hole = texture_without_edges(image, hole), hole
        self._seed, self._random, self._across = seed, torch.Generator().manual_seed(seed), across
        self._found: Found | None = None  # at the level before, None where no part of the hole goes by it
        self._local: Locality | None = None  # where like patches lie in the photo, where all of it is searched
        self._goes_by = torch.zeros(0, dtype=torch.bool)  # which of that level's nodes do
        self._calmer = torch.zeros(0, dtype=torch.bool)  # which of them by less texture than there is beside the hole

    def first(
        self, palette: Palette, hole: Tensor, nodes: Nodes, given: Tensor | None, on_step: OnStep
    ) -> tuple[Palette, Tensor]:
        """The shift map of the smallest level, (n,2), and the palette that it is of, with the views that it uses.

        By offsets that are frequent in the photo, or by those toward a vanishing point where they cost hardly more; and
        in parts of the hole where the result is then more like the photo, by those of patches that were
        searched for it. Where patches reach across the hole, by these alone, and until then by what lies nearest; where
        there is a fill to follow, by both together.

        Args:
            palette: what may be copied, at least one pixel: the photo and its mirror image.
            hole: (H,W), bool.
            nodes: its pixels.
            given: a fill to follow, (3,H,W); None for none.
            on_step: see `OnStep`.
        """
        if self._across is not None and hole.numel() <= _ACROSS:
            alone = palette.beside(Views())  # what goes on beside the hole is not looked for in mirror images
            if hole.shape[0] < self._across[0]:
                return self._used(alone, nodes, nearest_source(alone, nodes.places))
            found = search_across(self._scene(alone), self._random, part(on_step, 0, 0.5))
            if found is not None:
                palette, self._found = alone, found
                shifts = nearest_source(palette, nodes.places)
                shifts = self._reaching_across(shifts, palette, hole, nodes, part(on_step, 0.5, 1))
                return self._used(palette, nodes, shifts)
        offsets = dominant_offsets(palette, hole, self._seed, part(on_step, 0, 0.3))
        if given is not None:
            shifts = self._following(given, palette, hole, nodes, offsets, part(on_step, 0.3, 1))
            return self._used(palette, nodes, shifts)
        energy = Energy(palette, hole, nodes, like_rim(palette, nodes))
        shifts = choose_shifts(energy, offsets, None, self._seed, part(on_step, 0.3, 0.5))
        if _depths(hole).max() < _CROSSED:
            return self._used(palette, nodes, shifts)
        begun = self._in_perspective(shifts, energy, hole, offsets, part(on_step, 0.5, 0.6))
        shifts = begun.shifts
        if not on_step(0.6):
            shifts = self._searched(begun, hole, part(on_step, 0.6, 1))
        return self._used(begun.energy.palette, nodes, shifts)

    def larger(
        self, shifts: Tensor, palette: Palette, hole: Tensor, nodes: Nodes, coarse: Nodes, on_step: OnStep
    ) -> Tensor:
        """The shift map of the next larger level, (n,2).

        Args:
            shifts: that of the level before, doubled.
            palette: what may be copied.
            hole: (H,W), bool.
            nodes: its pixels.
            coarse: those of the level before.
            on_step: see `OnStep`.
        """
        told = part(on_step, 0, 0.5)
        if self._across is not None:
            if hole.shape[0] < self._across[0] or hole.numel() > _ACROSS:
                return shifts
            scene, found = self._scene(palette), self._found
            if found is None:
                found = search_across(scene, self._random, told)
            else:
                found = search_larger(scene, found, self._random, told, across=True)
            if found is None:
                return shifts
            self._found = found
            return self._reaching_across(shifts, palette, hole, nodes, part(on_step, 0.5, 1))
        if self._found is not None and hole.numel() <= SEARCHED:
            scene = self._scene(palette)
            found = self._found = search_larger(scene, self._found, self._random, told, local=self._local)
            if found is None:
                return shifts
            covered = nodes.coarser(coarse)
            self._goes_by, self._calmer = (
                torch.cat([each, each.new_zeros(1)])[covered] for each in (self._goes_by, self._calmer)
            )
            which, wanted = self._goes_by.nonzero()[:, 0], like_found(scene, found, self._calmer)
            return follow_found(shifts, nodes, hole, palette, wanted, found.shifts, which, part(on_step, 0.5, 1))
        return shifts

    def _in_perspective(self, shifts: Tensor, energy: Energy, hole: Tensor, offsets: Tensor, on_step: OnStep) -> _Begun:
        """A shift map (n,2) that goes on toward a vanishing point where that costs hardly more than one that is free.

        That a handful of offsets should do as well as all of them is no accident.
        """
        nodes = energy.nodes
        free = _Begun(energy, shifts, torch.zeros(len(nodes), dtype=torch.bool), shifts)
        if on_step(0):
            return free
        wide, straight, views = offsets_in_perspective(energy.palette)
        if not len(straight):
            return free
        # Lines toward that point are straight already, to the pixel, and need none that are drawn.
        widely = Energy(wide, hole, nodes, like_rim(wide, nodes, lines=False))
        # None of the others may reach a smaller copy, and of these none another one: it would be by accident.
        view = wide.views.of(nodes.places[:, 1] + torch.cat([offsets, straight])[:, 1:])
        astray = torch.cat([view[: len(offsets)] >= SCALED, view[len(offsets) :] != views[:, None]])
        handicap = FORBIDDEN * astray.float()
        handicap[: len(offsets)] += _ASTRAY
        offsets = torch.cat([offsets, straight])
        other = choose_shifts(widely, offsets, None, self._seed, on_step, handicap)
        smaller = (wide.views.of(nodes.places[:, 1] + other[:, 1]) >= SCALED).float()
        hardly_more = widely.of_parts(other) < _HARDLY_MORE * widely.of_parts(shifts)
        better = (hardly_more & (nodes.part_means(smaller) > _LEAST_STRAIGHT))[nodes.parts()[0]]
        if not better.any():
            return free
        other = torch.where(better[:, None], other, shifts)
        # What is free copies the photo and its mirror image alone, which lie where they did.
        wide, other = self._used(wide, nodes, other, mirrored=True, instead=shifts)
        return _Begun(Energy(wide, hole, nodes, like_rim(wide, nodes, lines=False)), other, better, shifts)

    def _searched(self, begun: _Begun, hole: Tensor, on_step: OnStep) -> Tensor:
        """A shift map (n,2) by patches searched for the hole, in the parts of it where that is better.

        Where shifts go on toward a vanishing point, better means clearly better, unless they look far less like the
        photo than free ones do: then these are taken instead.

        Args:
            begun: by offsets, which the search begins with.
            hole: (H,W), bool.
            on_step: see `OnStep`.
        """
        energy = begun.energy
        palette, nodes = energy.palette, energy.nodes
        part_of, _ = nodes.parts()
        scene = self._scene(_unclean(palette))
        self._local = where_like_lie(scene)
        search = PatchSearch(scene, self._random, self._local)
        if not search.possible:
            return begun.shifts
        judge = Judge(search, energy)
        shifts, straight, before = begun.shifts, begun.straight, judge.of(begun.shifts)
        if straight.any():
            free = judge.of(begun.free)
            astray = before.faults > _ASTRAY_FAULTS * free.faults
            before = free.where(astray, before)
            shifts = torch.where(astray[part_of, None], begun.free, shifts)
            straight = straight & ~astray[part_of]
        searched = self._by_patches(search, judge, energy, shifts, hole, on_step)
        if searched is None:
            return shifts
        found, other, after = searched
        liking = 1.0 if not self._seed else _LIKING if self._seed % 2 else 1 / _LIKING
        better = (liking * after.faults < before.faults)[part_of]
        clearly = ((after.faults < _CLEARLY * before.faults) & (after.energy < before.energy))[part_of]
        self._goes_by = torch.where(straight, clearly, better)
        self._found = found if self._goes_by.any() else None
        return torch.where(self._goes_by[:, None], other, shifts)

    def _by_patches(
        self, search: PatchSearch, judge: Judge, energy: Energy, begun: Tensor, hole: Tensor, on_step: OnStep
    ) -> tuple[Found, Tensor, Verdict] | None:
        """What a search of patches finds, the shift map (n,2) by it, and what speaks against that; None if interrupted.

        A search goes on from what it begins with. So there are three: from copies at the photo's offsets, and from what
        the rim suggests, at the same size and at one where a few patches fill the hole. In each part of the hole that
        one counts whose copies show least at the rim and at seams.

        Args:
            search: of the photo's patches.
            judge: of fills of the hole.
            energy: what shows at the rim and at seams.
            begun: a shift map, (n,2).
            hole: (H,W), bool.
            on_step: see `OnStep`.
        """
        nodes = energy.nodes
        part_of, count = nodes.parts()
        nobody = torch.zeros(len(nodes), dtype=torch.bool)
        copied, _ = energy.palette.copied(nodes.places, begun)
        suggested = search.looks_of(energy.palette.suggested.image, nodes)
        starts = ((search.looks(copied), False), (suggested, False), (suggested, True))
        looks, offsets, shifts = torch.zeros(len(nodes), suggested.shape[1]), torch.zeros_like(begun), begun
        least = torch.full((count,), torch.inf)
        for number, (start, tiny) in enumerate(starts):
            told = part(on_step, 0.8 * number / len(starts), 0.8 * (number + 1) / len(starts))
            found = search.run(nodes, start, part(told, 0, 0.5), tiny=tiny).within(hole)
            if told(0.5):
                return None
            other = self._by(found, nobody, energy, hole, part(told, 0.5, 1))
            shown = energy.of_parts(other)
            better, least = (shown < least)[part_of, None], torch.minimum(shown, least)
            looks, offsets, shifts = (
                torch.where(better, *each) for each in ((found.looks, looks), (found.shifts, offsets), (other, shifts))
            )
        found, verdict = Found(hole, looks, offsets), judge.of(shifts)
        calm = self._by(found, ~nobody, energy, hole, part(on_step, 0.8, 1))
        calmly = judge.of(calm)
        rubble = calmly.faults * calmly.energy < _RUBBLE * verdict.faults * verdict.energy
        self._calmer = rubble[part_of]
        shifts = torch.where(self._calmer[:, None], calm, shifts)
        return found, shifts, calmly.where(rubble, verdict)

    def _used(
        self, palette: Palette, nodes: Nodes, shifts: Tensor, *, mirrored: bool = False, instead: Tensor | None = None
    ) -> tuple[Palette, Tensor]:
        """A palette without the views that shifts make little use of, and these shifts in it.

        Args:
            palette: what they are shifts in.
            nodes: whose shifts they are.
            shifts: (n,2).
            mirrored: whether the mirror image stays anyway.
            instead: of nodes whose view is gone, (n,2); None for those of nodes beside them.
        """
        views, columns = palette.views, nodes.places[:, 1] + shifts[:, 1]
        kept = views.used(columns, nodes.parts()[0], mirrored=mirrored)
        if self._found is not None:
            self._found = self._found.moved(views, kept)
        columns = views.moved(columns, kept)
        shifts = torch.stack([shifts[:, 0], columns - nodes.places[:, 1]], dim=1)
        if instead is not None:
            shifts = torch.where((columns < 0)[:, None], instead, shifts)
        palette = palette.beside(kept)
        return palette, joined(shifts, ~palette.copied(nodes.places, shifts)[1], nodes, palette)

    def _by(self, found: Found, calmer: Tensor, energy: Energy, hole: Tensor, on_step: OnStep) -> Tensor:
        """A shift map by what a search found, each shift near those that found it; `calmer` as in `like_found`."""
        palette, nodes = energy.palette, energy.nodes
        wanted = along_lines(like_found(self._scene(palette), found, calmer), palette, nodes)
        start, everyone = nearest_source(palette, nodes.places), torch.arange(len(nodes))
        return follow_found(start, nodes, hole, palette, wanted, found.shifts, everyone, on_step)

    def _reaching_across(self, shifts: Tensor, palette: Palette, hole: Tensor, nodes: Nodes, on_step: OnStep) -> Tensor:
        """A shift map by patches that reach across a thin hole, from another, (n,2)."""
        assert self._found is not None  # noqa: S101  searched right before
        energy = Energy(palette, hole, nodes, like_rim(palette, nodes, near=True))
        return follow_nearby(shifts, energy, self._found.shifts, on_step)

    def _following(
        self, given: Tensor, palette: Palette, hole: Tensor, nodes: Nodes, offsets: Tensor, on_step: OnStep
    ) -> Tensor:
        """A shift map for the looks of a given fill: patches like its own tell which shifts have them."""
        first = None
        search = PatchSearch(self._scene(palette), self._random)
        if search.possible:
            first = search.match(given).shifts
            offsets = torch.cat([frequent(first), offsets])
        wanted = like_given(palette, nodes, given)
        return choose_shifts(Energy(palette, hole, nodes, wanted), offsets, first, self._seed, on_step)

    def _scene(self, palette: Palette) -> Scene:
        size = palette.known.shape[0], palette.known.shape[1]
        if palette.known.numel() > self._hole.numel():  # larger than levels are that smaller ones are told of
            return Scene(palette, texture_without_edges(palette.image, ~palette.known))
        return Scene(palette, reduced(self._texture, self._hole, size))


def size_to_search_across(holes: Sequence[Tensor]) -> tuple[int, int] | None:
    """The size of the largest level at which patches can be searched that reach across a thin hole; None for none.

    At smaller ones what shows between strokes or wires is lost.

    Args:
        holes: of all levels, the smallest first; (H,W) each, bool.
    """
    for hole in reversed(holes):
        if hole.numel() <= _ACROSS:
            depths = _depths(hole)
            if depths.max() >= _CROSSED and _are_reached(depths):
                return hole.shape[0], hole.shape[1]
    return None


def thin(hole: Tensor) -> bool:
    """Whether patches reach across a hole, (H,W), bool, wherever or nearly."""
    return _are_reached(_depths(hole))


def _are_reached(depths: NDArray[np.float64]) -> bool:
    """The same, of the depths of a hole's pixels."""
    return bool(depths.max() <= _THIN or np.quantile(depths, _MOSTLY) <= _MOSTLY_THIN)


def _depths(hole: Tensor) -> NDArray[np.float64]:
    """Pixels from each of a hole's to its rim; (n,)."""
    distances: Any = distance_transform_edt(hole.numpy())
    found: NDArray[np.float64] = distances[hole.numpy()]
    return found


def _unclean(palette: Palette) -> Palette:
    """A palette with a wider hole: masks leave a rest of what they hide, which would be continued."""
    hole = dilated(~palette.known, _UNCLEAN)
    return Palette(palette.image, hole, palette.source & ~hole, palette.views)
