"""A photo's hole, filled from the photo itself at every level of a pyramid."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from kornia.filters import gaussian_blur2d
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional

from refiner.errors import InputError
from refiner.exemplar.blending import blend, harmonic_fill
from refiner.exemplar.energy import Guide
from refiner.exemplar.shift_map import choose_shifts, double_shifts, mend_shifts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SMALLEST = 135  # short side in pixels that the smallest level aims at
_MOST_NODES = 8000  # pixels of the hole there; a larger hole is labeled one level further down
_LEAST_SIDE = 48
_MENDED = 1500  # short side in pixels up to which pieces are mended; above, edges are off by a pixel or two
_SMOOTHED = 1.5  # sigma in pixels at the smallest level of what colors are compared by
_HARMONIC_WEIGHT = 1.0  # of the rim's colors, at the rim
_HARMONIC_REACH = 8.0  # pixels over which they lose their weight: deep inside they mean nothing
_GUIDE_WEIGHT = 4.0  # of a fill that is to be followed


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
        avoid: what must not be copied; bool, (1,1,H,W), of the largest level's size.
        guide: a fill to follow, of any level's size or another; (1,3,h,w) in [0,1]. None to go by the rim alone.
        seed: of what is drawn at random.
        on_step: called now and then with the number of a step and how many there are; what it raises ends the work.

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
        # A large hole can cover all of a small level, where holes have grown.
        start = next((i for i, source in enumerate(self._sources) if source.any()), None)
        if start is None:
            raise InputError("avoid: leaves nothing of the photo to copy from; mark less.")
        image, hole = self._levels[start].image[0], self._levels[start].hole[0, 0]
        chosen = choose_shifts(image, hole, self._sources[start], _guide(image, hole, guide), seed, self._on_step)
        self._shifts: list[Tensor | None] = [None] * start + [chosen]

    def shifts(self, index: int) -> Tensor | None:
        """The shift map of a level, (2,H,W); None at one that has nothing to copy."""
        while len(self._shifts) <= index:
            number = len(self._shifts)
            level, source = self._levels[number], self._sources[number]
            hole = level.hole[0, 0]
            before = self._shifts[-1]
            assert before is not None  # noqa: S101  the first is there, and all after it
            doubled = double_shifts(before, hole, source)
            if min(hole.shape) <= _MENDED:
                doubled = mend_shifts(doubled, level.image[0], hole, source, lambda: self._on_step(1, 1))
            self._shifts.append(doubled)
        return self._shifts[index]

    def render(self, index: int) -> Tensor:
        """A level's image with its hole filled; (1,3,H,W), equal to the level outside the hole."""
        self._on_step(1, 1)
        level, shifts = self._levels[index], self.shifts(index)
        image, hole = level.image[0], level.hole[0, 0]
        filled = harmonic_fill(image, hole) if shifts is None else blend(image, hole, self._sources[index], shifts)
        return filled[None].to(self._like)


def _source(hole: Tensor, avoid: Tensor | None) -> Tensor:
    """What may be copied at a level; (H,W), bool."""
    if avoid is None:
        return ~hole
    avoided = functional.adaptive_max_pool2d(avoid.cpu().float(), (hole.shape[0], hole.shape[1]))[0, 0] > 0
    return ~hole & ~avoided


def _guide(image: Tensor, hole: Tensor, fill: Tensor | None) -> Guide:
    """The colors to keep to: a fill's everywhere, or the rim's near the rim."""
    known = (~hole)[None, None].float()
    photo = _smoothed(image[None] * known) / _smoothed(known).clamp(min=1e-6)
    if fill is None:
        depth = torch.from_numpy(distance_transform_edt(hole.numpy())).float()
        return Guide(harmonic_fill(image, hole), _HARMONIC_WEIGHT * torch.exp(-depth / _HARMONIC_REACH), photo[0])
    fill = functional.interpolate(fill.cpu().float(), size=hole.shape, mode="area")
    fill = torch.where(hole, fill, image)
    return Guide(_smoothed(fill)[0], torch.full(hole.shape, _GUIDE_WEIGHT), photo[0])


def _smoothed(x: Tensor) -> Tensor:
    reach = 2 * round(3 * _SMOOTHED) + 1
    if min(x.shape[-2:]) <= reach // 2:  # too small to be smoothed
        return x
    smooth: Tensor = gaussian_blur2d(x, (reach, reach), (_SMOOTHED, _SMOOTHED))
    return smooth
