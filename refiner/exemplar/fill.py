"""A photo's hole, filled from the photo itself at every level of a pyramid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from refiner.errors import InputError
from refiner.exemplar.blending import Copied, Correction, seam_correction
from refiner.exemplar.laplace import harmonic_fill
from refiner.exemplar.nodes import Nodes
from refiner.exemplar.palette import Palette, Suggested
from refiner.exemplar.progress import OnStep, part, unheard
from refiner.exemplar.shift_map import double_shifts, mend_shifts
from refiner.exemplar.structure import SEARCHED, Structure, size_to_search_across, thin
from refiner.exemplar.transport import carried_inward
from refiner.exemplar.views import GAP, Views
from refiner.memory import freed_memory_kept

if TYPE_CHECKING:
    from collections.abc import Sequence

# Of the smallest level: the larger it is, the better things go on behind a hole, up to here; then fills get smooth.
_LARGEST_SIDE = 400  # its short side in pixels, at most
_LARGEST = 300_000  # pixels of it
_MOST_NODES = 20_000  # pixels of the hole there: bounds time
_SMALL_SIDE, _MOST_NODES_ABOVE = 300, 12_000  # and at more than such a side: in a wide hole pieces go astray there
_LEAST_SIDE = 48
MENDED = 4_000_000  # pixels of a level up to which pieces are mended; above, edges are off by a pixel or two
_CARRIED = 2_200_000  # pixels of a level at most at which edges are carried into a thin hole
_STEPS = 20_000  # of blending, times a level's short side: fewer at larger ones, which start from those of smaller ones
_FEWEST_STEPS = 8
_LEAST_SHARE = 1e-4  # of a pixel that is known


class Level(NamedTuple):
    """One level of a photo's pyramid: image (1,3,H,W) in [0,1], and hole (1,1,H,W), bool."""

    image: Tensor
    hole: Tensor


def level_count(height: int, width: int, hole_pixels: int) -> int:
    """How often to halve a photo, and one: for the smallest level to be chosen at."""
    count = 1
    while (side := min(height, width)) > _LARGEST_SIDE or (
        side >= 2 * _LEAST_SIDE
        and (height * width > _LARGEST or hole_pixels > (_MOST_NODES if side <= _SMALL_SIDE else _MOST_NODES_ABOVE))
    ):
        height, width, hole_pixels, count = height // 2, width // 2, hole_pixels // 4, count + 1
    return count


@dataclass
class _Chosen:
    """A level's fill.

    Attributes:
        on_cpu: what is copied, as it was chosen.
        on_device: the same, on the photo's device.
        correction: what is added to copies there.
    """

    on_cpu: Copied
    on_device: Copied
    correction: Correction


class Exemplar:
    """A fill by copying, chosen at the smallest level and rendered at any.

    What is copied is chosen on the CPU: a last digit can decide between two copies, and the fill should not depend on
    the device. Copies are put together on the picture's. All of it is done in float32; results come back in the
    picture's dtype. Levels are rendered in order, the smallest first; each is rendered once.

    Args:
        levels: of a photo, the smallest first; each about half of the next, its hole no smaller.
        avoid: what must not be copied; bool, (1,1,H,W), of any size.
        follow: a fill to follow, of any level's size or another; (1,3,h,w) in [0,1]. None to go by the rim alone.
        seed: of what is drawn at random.
        on_step: see `OnStep`.

    Raises:
        InputError: nothing is left to copy from.
    """

    def __init__(
        self,
        levels: Sequence[Level],
        *,
        avoid: Tensor | None = None,
        follow: Tensor | None = None,
        seed: int = 0,
        on_step: OnStep = unheard,
    ) -> None:
        self._levels, self._avoid, self._follow, self._seed = levels, avoid, follow, seed
        self._on_step = on_step
        self._structure: Structure | None = None
        self._tight: Sequence[Level] | None = None  # the levels, where the hole is thin
        self._carried: Tensor | None = None  # the photo with edges carried into a thin hole, when it is needed
        self._at: int | None = None  # the level that was chosen last
        self._chosen: _Chosen | None = None
        if levels[-1].hole.any() and not _source(levels[-1].hole.cpu()[0, 0], avoid).any():
            raise InputError("avoid: leaves nothing of the photo to copy from; mark less.")

    def render(self, index: int) -> Tensor:
        """A level's image with its hole filled; (1,3,H,W), equal to the level outside the hole."""
        image, hole = self._levels[index]
        if not hole.any():
            return image
        with freed_memory_kept(0):  # solvers make and free large tensors again and again
            chosen = self._choose(index)
            picture = image[0].float()
            if chosen is None:
                return harmonic_fill(picture, hole[0, 0])[None].to(image)
            filled, copied = picture.clone(), chosen.on_device
            if self._tight is not None:  # what a hole has grown by shows the photo
                inside = hole[0, 0]
                filled[:, inside] = copied.palette.image[:, inside]
            colors = copied.colors().add_(chosen.correction.far).add_(chosen.correction.near)
            filled.flatten(1)[:, copied.nodes.at] = colors.clamp(0, 1).T
            self._on_step(1.0)
            return filled[None].to(image)

    def shifts(self, index: int) -> Tensor | None:
        """Where each pixel of a level copies from, (2,H,W), 0 outside the hole; None where nothing is copied there."""
        chosen = self._choose(index)
        if chosen is None:
            return None
        nodes, _, shifts = chosen.on_cpu
        spread = torch.zeros(2, *nodes.size, dtype=torch.long)
        spread.flatten(1)[:, nodes.at] = shifts.T
        return spread

    def _choose(self, index: int) -> _Chosen | None:
        """What is copied at a level, which follows from the level before; None where there is nothing to copy yet."""
        if self._at is None or self._at > index:
            self._at, self._chosen = -1, None
            self._tight = _tightened(self._levels) if self._follow is None else None
            self._carried = None
        first = self._at + 1
        for level in range(first, index + 1):
            share = 1 / (index + 1 - first)
            on_step = part(self._on_step, (level - first) * share, (level - first + 1) * share)
            self._at, self._chosen = level, self._next(level, self._chosen, on_step)
        return self._chosen

    def _next(self, index: int, before: _Chosen | None, on_step: OnStep) -> _Chosen | None:
        levels = self._levels if self._tight is None else self._tight
        image, hole = levels[index].image[0].cpu().float(), levels[index].hole[0, 0].cpu()
        source = _source(hole, self._avoid)
        # A large hole can cover all of a small level, where holes have grown.
        if not hole.any() or not source.any():
            return None
        nodes = Nodes(hole)
        suggest = None if self._tight is None else partial(self._suggested, self._tight, (hole.shape[0], hole.shape[1]))
        if before is None:
            palette = Palette(image, hole, source, Views(self._span_at(index), mirrored=True), suggest)
            self._structure = self._structure_of()
            palette, shifts = self._structure.first(palette, hole, nodes, self._given(palette), part(on_step, 0, 0.8))
        else:
            coarse, smaller, coarse_shifts = before.on_cpu
            palette = Palette(image, hole, source, smaller.views.doubled(), suggest)
            shifts = double_shifts(coarse_shifts, coarse, nodes, palette)
            assert self._structure is not None  # noqa: S101  made at the level before
            shifts = self._structure.larger(shifts, palette, hole, nodes, coarse, part(on_step, 0, 0.4))
            if hole.numel() <= MENDED:
                shifts = mend_shifts(shifts, nodes, hole, palette, part(on_step, 0.4, 0.8))
        on_cpu = Copied(nodes, palette, shifts)
        on_device = on_cpu.to(levels[index].image.device)
        coarser = None if before is None else before.correction.enlarged(before.on_device.nodes, on_device.nodes)
        steps = max(_FEWEST_STEPS, _STEPS // min(hole.shape))
        correction = seam_correction(on_device, coarser, steps, part(on_step, 0.8, 1))
        return _Chosen(on_cpu, on_device, correction)

    def _structure_of(self) -> Structure:
        last = max([0, *(i for i, level in enumerate(self._levels) if level.hole.numel() <= SEARCHED)])
        image, hole = (self._levels if self._tight is None else self._tight)[last]
        across = size_to_search_across([level.hole[0, 0].cpu() for level in self._tight or ()])
        return Structure(image[0].cpu().float(), hole[0, 0].cpu(), self._seed, across)

    def _suggested(self, tight: Sequence[Level], size: tuple[int, int]) -> Suggested:
        """The photo with edges carried into its thin hole, at a level's size."""
        if self._carried is None:
            image, hole = next((each for each in reversed(tight) if each.hole.numel() <= _CARRIED), tight[0])
            self._carried = carried_inward(image[0].cpu().float(), hole[0, 0].cpu())
        image = functional.adaptive_avg_pool2d(self._carried[None], size)[0]
        return Suggested(image, torch.zeros(size, dtype=torch.bool))

    def _given(self, palette: Palette) -> Tensor | None:
        """The fill to follow, at a level's size; (3,H,W)."""
        if self._follow is None:
            return None
        size = palette.image.shape[1:]
        return functional.interpolate(
            self._follow.cpu().float(), size=size, mode="bilinear", align_corners=False, antialias=True
        )[0]

    def _span_at(self, index: int) -> int:
        """Columns for the photo, so that what lies after it, doubled, lies beyond the photo at larger levels too."""
        widths = [level.hole.shape[3] for level in self._levels[index:]]
        span = max(-(-width >> doublings) for doublings, width in enumerate(widths))  # rounded up
        return span + span // GAP


def _tightened(levels: Sequence[Level]) -> list[Level] | None:
    """The same levels with holes that have not grown, for a hole that is thin; None for others.

    A pyramid's holes grow with each level by what blurring spreads, which for a thin hole is several times its width.
    Here pixels are the mean of what is known in them. What is thicker is left a margin, which hides what masks leave
    of an object.
    """
    small = _tight(levels[-1], levels[0])
    if not small.hole.any() or not thin(small.hole[0, 0].cpu()):
        return None
    return [small, *(_tight(levels[-1], level) for level in levels[1:-1]), levels[-1]][-len(levels) :]


def _tight(largest: Level, level: Level) -> Level:
    """A level's size of the largest level: known pixels averaged, all that has a pixel of the hole in it is hole."""
    size = level.hole.shape[2], level.hole.shape[3]
    known = (~largest.hole).to(largest.image)
    total, share = (functional.adaptive_avg_pool2d(each, size) for each in (largest.image * known, known))
    return Level(total / share.clamp(min=_LEAST_SHARE), share < 1 - _LEAST_SHARE)


def _source(hole: Tensor, avoid: Tensor | None) -> Tensor:
    """What may be copied at a level; (H,W), bool."""
    if avoid is None:
        return ~hole
    avoided = functional.adaptive_max_pool2d(avoid.cpu().float(), (hole.shape[0], hole.shape[1]))[0, 0] > 0
    return ~hole & ~avoided
