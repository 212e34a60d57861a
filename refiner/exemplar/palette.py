"""What can be copied: a photo, and beside it other views of it, its mirror image and smaller copies.

A copy from one of them is a shift like any other, to columns beyond the photo's own, so that nothing else need know of
them: one shift to the mirror image reflects about one axis, one to a smaller copy shrinks about one point.
"""

from __future__ import annotations

import math
from functools import cache, cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from refiner.exemplar.lines import drawn, lines_under
from refiner.exemplar.nodes import picked
from refiner.exemplar.transport import carried_inward
from refiner.exemplar.views import Views
from refiner.regions import dilated

if TYPE_CHECKING:
    from collections.abc import Callable

_ALONE = Views()
_AT_ONCE = 1 << 17  # pixels: what is computed on the way would not stay in the processor's cache, nor in little memory
_LEAST = 1e-6  # share of a pixel that is known
_APART = 0.25  # of the photo's width: nearer, a piece and its mirror image are seen together, as a blot's two halves


class Suggested(NamedTuple):
    """What a hole's surroundings suggest.

    Attributes:
        image: the photo with its hole in these colors; (3,H,W).
        lines: where they are of an edge that goes on from rim to rim; (H,W), bool.
    """

    image: Tensor
    lines: Tensor


class Palette:
    """The pixels that may be copied at one level.

    Args:
        image: (3,H,W).
        hole: (H,W), bool.
        source: what may be copied; (H,W), bool.
        views: what there is beside the photo, P columns with it; what lies between two views cannot be copied.
        suggest: gives what the hole's surroundings suggest, when it is asked for; None for edges that go on from rim to
            rim, and what else the rim shows, carried inward along edges.

    Attributes:
        image: as given.
        source: as given.
        known: what is not hole; (H,W), bool.
        views: as given.
        width: columns of the palette: P.
    """

    def __init__(
        self,
        image: Tensor,
        hole: Tensor,
        source: Tensor,
        views: Views = _ALONE,
        suggest: Callable[[], Suggested] | None = None,
    ) -> None:
        self.image, self.source, self.known, self.views = image, source, ~hole, views
        self.width = views.width(image.shape[2])
        self._suggested = cache(suggest or (lambda: _by_rim(image, hole)))

    def to(self, device: torch.device) -> Palette:
        """The same on a device."""
        if device == self.image.device:
            return self
        image, known, source = (each.to(device) for each in (self.image, self.known, self.source))
        return Palette(image, ~known, source, self.views)

    def beside(self, views: Views) -> Palette:
        """The same photo with other views of it."""
        return Palette(self.image, ~self.known, self.source, views, self._suggested)  # found once

    def halved(self) -> Palette:
        """Half the size; what is mostly hole is hole, and what is wholly source is source."""
        height, width = (side // 2 * 2 for side in self.known.shape)
        known = self.known.float()[None]
        share = functional.avg_pool2d(known[None, :, :height, :width], 2)[0]
        hole = share[0] < 0.5  # noqa: PLR2004
        image = functional.avg_pool2d((self.image * known)[None, :, :height, :width], 2)[0] / share.clamp(min=_LEAST)
        source = functional.avg_pool2d(self.source.float()[None, None, :height, :width], 2)[0, 0] == 1
        return Palette(image * ~hole, hole, source & ~hole, self.views.halved(hole.shape[1]))

    @property
    def suggested(self) -> Suggested:
        """What the hole's surroundings suggest."""
        return self._suggested()

    def spread(self, x: Tensor) -> Tensor:
        """What the photo has, (...,H,W), as the palette has it: each view of it; (...,H,P)."""
        views = self.views
        if views.span is None:
            return x
        spread = x.new_zeros(*x.shape[:-1], self.width)
        spread[..., : x.shape[-1]] = x
        if views.mirror is not None:
            spread[..., 2 * views.mirror - x.shape[-1] : 2 * views.mirror] = x.flip(-1)
        for start, scale in views.scaled:
            small = _scaled(x, scale)
            spread[..., : small.shape[-2], start : start + small.shape[-1]] = small
        return spread

    def copied(self, places: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor]:
        """What places of the photo (n,2) copy at a shift (2,), at one each (n,2), or at several (...,n,2).

        Returns:
            Indices into the palette's pixels, rows one after the other, and whether they may be copied; (...,n) each.
            An index is of the nearest pixel where it would lie outside.
        """
        if len(places) > _AT_ONCE:
            theirs = torch.split(shifts.expand(*shifts.shape[:-2], *places.shape), _AT_ONCE, dim=-2)
            parts = [self.copied(*each) for each in zip(torch.split(places, _AT_ONCE), theirs, strict=True)]
            at, may = (torch.cat(each, dim=-1) for each in zip(*parts, strict=True))
            return at, may
        rows, columns = (places[..., axis] + shifts[..., axis] for axis in (0, 1))
        y, x = rows.clamp(0, self.source.shape[0] - 1), columns.clamp(0, self.width - 1)
        at = torch.add(x, y, alpha=self.width)
        may = picked(self._sources.flatten(), at).logical_and_(y == rows).logical_and_(x == columns)
        if self.views.mirror is not None:
            may &= self.apart(places[:, 0], places[:, 1], y, x)
        return at, may

    def apart(self, y: Tensor, x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Whether pixels of the palette may be seen beside these of the photo: not if they mirror what is near."""
        mirror = self.views.mirror
        if mirror is None:
            return torch.ones_like(columns, dtype=torch.bool)
        least = math.ceil(_APART * mirror)
        shown = 2 * mirror - 1 - columns  # by columns of the mirror image
        far = ((rows - y).abs_() >= least) | ((shown - x).abs_() >= least)
        return far.logical_or_(columns < mirror).logical_or_(columns >= 2 * mirror)

    def colors(self, at: Tensor) -> Tensor:
        """The colors of pixels of the palette, given their indices (n,): (n,3)."""
        if self.views.span is None:
            return self.image.flatten(1).index_select(1, at).T
        if len(at) > _AT_ONCE:
            found = self.image.new_empty(3, len(at))
            for some, part in zip(torch.split(at, _AT_ONCE), torch.split(found, _AT_ONCE, dim=1), strict=True):
                part[:] = self.colors(some).T
            return found.T
        width = self.image.shape[2]
        rows, columns = at // self.width, at % self.width
        shown = self.photo_columns(columns).clamp(max=width - 1)
        colors = self.image.flatten(1).index_select(1, rows * width + shown).T
        for (start, _), small in zip(self.views.scaled, self._smaller, strict=True):
            low, narrow = small.shape[1:]
            of = ((columns >= start) & (columns < start + narrow) & (rows < low)).nonzero()[:, 0]
            colors[of] = small[:, rows[of], columns[of] - start].T
        return colors

    def mirrored(self, columns: Tensor) -> Tensor:
        """Which of the palette's columns are of the mirror image; bool."""
        mirror = self.views.mirror
        if mirror is None:
            return torch.zeros_like(columns, dtype=torch.bool)
        return (columns >= mirror) & (columns < 2 * mirror)

    def photo_columns(self, columns: Tensor) -> Tensor:
        """Which of the photo's columns those of photo and mirror image show; of others, columns beyond its width."""
        mirror = self.views.mirror
        if mirror is None:
            return columns
        return torch.where(self.mirrored(columns), 2 * mirror - 1 - columns, columns)

    @cached_property
    def _sources(self) -> Tensor:
        return self.spread(self.source)

    @cached_property
    def _smaller(self) -> list[Tensor]:
        return [_scaled(self.image, scale) for _, scale in self.views.scaled]


def _by_rim(image: Tensor, hole: Tensor) -> Suggested:
    image, lines = drawn(image, hole, lines_under(image, hole))
    return Suggested(carried_inward(image, hole & ~lines, wide=True), lines)


def _scaled(x: Tensor, scale: float) -> Tensor:
    """A picture (...,H,W), smaller; for bool, what is read from pixels that all are true."""
    if x.dtype == torch.bool:
        # The bilinear filter reaches half as far as the bicubic one, and unlike it weighs nothing below 0.
        false = dilated(~x, math.ceil(1 / scale)).float()
        return functional.interpolate(
            false[None, None], scale_factor=scale, mode="bilinear", antialias=True, recompute_scale_factor=False
        )[0, 0].eq(0)
    small = functional.interpolate(
        x.float().view(1, -1, *x.shape[-2:]),
        scale_factor=scale,
        mode="bicubic",
        antialias=True,
        recompute_scale_factor=False,
    )
    return small.view(*x.shape[:-2], *small.shape[-2:]).to(x)
