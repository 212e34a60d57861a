"""A photo's hole, filled from the photo itself at every level of a pyramid."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor
from torch.nn import functional

from refiner.errors import InputError
from refiner.exemplar.blending import copy_pixels, harmonic_fill, seam_correction
from refiner.exemplar.energy import Guide
from refiner.exemplar.palette import Palette
from refiner.exemplar.shift_map import choose_shifts, double_shifts, mend_shifts
from refiner.memory import freed_memory_kept

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SMALLEST = 200  # short side in pixels that the smallest level aims at
_MOST_NODES = 20_000  # pixels of the hole there; a larger hole is labeled one level further down
_LEAST_SIDE = 48
_MENDED = 1500  # short side in pixels up to which pieces are mended; above, edges are off by a pixel or two
_STEPS = 200  # of blending at the smallest level, fewer in proportion at larger ones, which start from it
_FEWEST_STEPS = 12
_SMOOTHED = 1.5  # sigma in pixels at the smallest level of what colors are compared by
_HARMONIC_WEIGHT = 0.1  # of the colors that the rim suggests
_BUSY_WEIGHT = 0.1  # of how busy the photo is at the rim, where a fill is to be followed too
_BUSY_AREA = 3.0  # sigma in pixels of what is local
_BUSY_LEAST = 0.01  # contrast of noise
_LEAST_WEIGHT = 1e-3  # of known pixels that a blurred value can rest on
_GAP = 8  # part of the width left empty beside photo and mirror image: a piece across is reflected at the edge
_GUIDE_WEIGHT = 2.0  # of a fill that is to be followed


class Level(NamedTuple):
    """One level of a photo's pyramid: image (1,3,H,W) in [0,1], and hole (1,1,H,W), bool."""

    image: Tensor
    hole: Tensor


def level_count(height: int, width: int, hole_pixels: int) -> int:
    """How often to halve a photo, and one: for the smallest level to be chosen at."""
    count, side = 1, min(height, width)
    while side > 1.5 * _SMALLEST or (side >= 2 * _LEAST_SIDE and hole_pixels > _MOST_NODES):
        side, hole_pixels, count = side // 2, hole_pixels // 4, count + 1
    return count


class Exemplar:
    """A fill by copying, made once and rendered at any level.

    The work is done on the CPU in float32, whatever the picture's device and dtype; results come back in those.

    Args:
        levels: of a photo, the smallest first; each about half of the next, its hole no smaller.
        avoid: what must not be copied; bool, (1,1,H,W), of any size.
        guide: a fill to follow, of any level's size or another; (1,3,h,w) in [0,1]. None to go by the rim alone.
        seed: of what is drawn at random.
        on_step: called now and then with the number of a step and how many there are. Where it gives true, the search
            ends with what it has; what it raises ends the work.

    Raises:
        InputError: nothing is left to copy from.
    """

    def __init__(
        self,
        levels: Sequence[Level],
        *,
        avoid: Tensor | None = None,
        guide: Tensor | None = None,
        seed: int = 0,
        on_step: Callable[[int, int], object] | None = None,
    ) -> None:
        self._like = levels[0].image
        self._levels = [Level(level.image.cpu().float(), level.hole.cpu()) for level in levels]
        self._on_step = on_step or (lambda _step, _steps: None)
        self._sources = [_source(level.hole[0, 0], avoid) for level in self._levels]
        self._start = 0
        self._half: int | None = None
        self._last: tuple[int, Palette] | None = None
        self._shifts: list[Tensor | None] = []
        self._corrections: list[tuple[Tensor, Tensor] | None] = []
        if not any(level.hole.any() for level in self._levels):
            self._shifts = [None] * len(self._levels)
            self._corrections = [None] * len(self._levels)
            return
        # A large hole can cover all of a small level, where holes have grown.
        start = next((i for i, source in enumerate(self._sources) if source.any()), None)
        if start is None:
            raise InputError("avoid: leaves nothing of the photo to copy from; mark less.")
        image, hole = self._levels[start].image[0], self._levels[start].hole[0, 0]
        widths = [level.hole.shape[3] for level in self._levels[start:]]
        half = max(-(-width >> doublings) for doublings, width in enumerate(widths))  # rounded up
        half += half // _GAP
        palette = Palette(image, hole, self._sources[start], half)
        chosen = choose_shifts(palette, hole, _guide(palette, image, hole, guide), seed, self._on_step)
        self._shifts = [None] * start + [chosen]
        columns = (torch.arange(hole.shape[1]) + chosen[1])[hole]
        # What has no use for the mirror image is spared it.
        self._half = half if palette.mirrored(columns).any() else None
        self._start = start
        self._corrections = [None] * start

    def shifts(self, index: int) -> Tensor | None:
        """The shift map of a level, (2,H,W); None at one that has nothing to copy."""
        while len(self._shifts) <= index:
            number = len(self._shifts)
            hole, palette = self._levels[number].hole[0, 0], self._palette(number)
            before = self._shifts[-1]
            assert before is not None  # noqa: S101  the first is there, and all after it
            doubled = double_shifts(before, hole, palette)
            if min(hole.shape) <= _MENDED:
                doubled = mend_shifts(doubled, hole, palette, lambda: self._on_step(1, 1))
            self._shifts.append(doubled)
        return self._shifts[index]

    def render(self, index: int) -> Tensor:
        """A level's image with its hole filled; (1,3,H,W), equal to the level outside the hole."""
        self._on_step(1, 1)
        image, hole = self._levels[index].image[0], self._levels[index].hole[0, 0]
        if not hole.any():
            return self._levels[index].image.to(self._like)
        with freed_memory_kept(0):  # solvers make and free large tensors again and again
            shifts, corrections = self.shifts(index), self._correction(index)
        if shifts is None or corrections is None:
            return harmonic_fill(image, hole)[None].to(self._like)
        far, near = corrections
        filled = (copy_pixels(self._palette(index), hole, shifts) + far + near).clamp(0, 1)
        return torch.where(hole, filled, image)[None].to(self._like)

    def _palette(self, index: int) -> Palette:
        """What may be copied at a level; its halves double from level to level, as shifts do."""
        if self._last is None or self._last[0] != index:
            level = self._levels[index]
            half = None if self._half is None else self._half << (index - self._start)
            self._last = index, Palette(level.image[0], level.hole[0, 0], self._sources[index], half)
        return self._last[1]

    def _correction(self, index: int) -> tuple[Tensor, Tensor] | None:
        while len(self._corrections) <= index:
            number = len(self._corrections)
            level, shifts = self._levels[number], self.shifts(number)
            assert shifts is not None  # noqa: S101  as above
            before = self._corrections[-1] if self._corrections else None
            coarser = None if before is None else before[0]
            side = min(level.hole.shape[-2:])
            steps = max(_FEWEST_STEPS, _STEPS * _SMALLEST // side)
            self._corrections.append(seam_correction(self._palette(number), level.hole[0, 0], shifts, coarser, steps))
        return self._corrections[index]


def _source(hole: Tensor, avoid: Tensor | None) -> Tensor:
    """What may be copied at a level; (H,W), bool."""
    if avoid is None:
        return ~hole
    avoided = functional.adaptive_max_pool2d(avoid.cpu().float(), (hole.shape[0], hole.shape[1]))[0, 0] > 0
    return ~hole & ~avoided


def _guide(palette: Palette, image: Tensor, hole: Tensor, fill: Tensor | None) -> Guide:
    """What the fill should look like: a given one, or what the rim suggests of colors and of how busy the photo is."""
    known = (~hole)[None, None].float()
    photo = torch.cat([_blurred(image[None], known, _SMOOTHED), _busyness(image, known)], dim=1)[0]
    if fill is None:
        looks = torch.cat([harmonic_fill(image, hole), harmonic_fill(photo[3:], hole)])
        return Guide(looks, _weights(_HARMONIC_WEIGHT, looks), palette.spread(photo))
    fill = torch.where(
        hole,
        functional.interpolate(
            fill.cpu().float(), size=hole.shape, mode="bilinear", align_corners=False, antialias=True
        ),
        image,
    )
    looks = torch.cat([_blurred(fill, torch.ones_like(known), _SMOOTHED)[0], harmonic_fill(photo[3:], hole)])
    return Guide(looks, _weights(_GUIDE_WEIGHT, looks), palette.spread(photo))


def _weights(of_colors: float, looks: Tensor) -> Tensor:
    """Of three colors, and of how busy the photo is; like the looks."""
    weights = torch.tensor([of_colors] * 3 + [_BUSY_WEIGHT], dtype=torch.float32)
    return weights.view(-1, 1, 1).expand_as(looks)


def _busyness(image: Tensor, known: Tensor) -> Tensor:
    """The logarithm of the local contrast; (1,1,H,W)."""
    gray = image.mean(dim=0)[None, None]
    mean = _blurred(gray, known, 1.0)
    variance = _blurred((gray - mean).square(), known, _BUSY_AREA)
    return (variance.sqrt() + _BUSY_LEAST).log()


def _blurred(x: Tensor, known: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of what is known alone; (1,C,H,W)."""
    side = 2 * round(3 * sigma) + 1
    blurred, weight = (
        gaussian_blur2d(values, (side, side), (sigma, sigma), border_type="replicate") for values in (x * known, known)
    )
    return torch.where(weight > _LEAST_WEIGHT, blurred / weight.clamp(min=_LEAST_WEIGHT), 0)
