"""What can be copied: a photo, and beside it other views of it, its mirror image and smaller copies.

A copy from one of them is a shift like any other, to columns beyond the photo's own, so that nothing else need know of
them: one shift to the mirror image reflects about one axis, one to a smaller copy shrinks about one point.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from refiner.exemplar.views import Views

_ALONE = Views()
_APART = 0.25  # of the photo's width: nearer, a piece and its mirror image are seen together, as a blot's two halves
_WHOLLY = 1e-4  # of what a smaller copy's pixel is read from, that may be unknown


class Palette:
    """The pixels that may be copied at one level.

    Args:
        image: (3,H,W).
        hole: (H,W), bool.
        source: what may be copied; (H,W), bool.
        views: what there is beside the photo, P columns with it; what lies between two views cannot be copied.

    Attributes:
        image: as given.
        source: as given.
        known: what is not hole; (H,W), bool.
        views: as given.
        width: columns of the palette: P.
    """

    def __init__(self, image: Tensor, hole: Tensor, source: Tensor, views: Views = _ALONE) -> None:
        self.image, self.source, self.known, self.views = image, source, ~hole, views
        self.width = views.width(image.shape[2])

    def beside(self, views: Views) -> Palette:
        """The same photo with other views of it."""
        return Palette(self.image, ~self.known, self.source, views)

    def spread(self, x: Tensor) -> Tensor:
        """What the photo has, (...,H,W), as the palette has it: each view of it; (...,H,P)."""
        views = self.views
        if views.span is None:
            return x
        spread = x.new_zeros(*x.shape[:-1], self.width)
        spread[..., : x.shape[-1]] = x
        if views.half is not None:
            spread[..., 2 * views.half - x.shape[-1] : 2 * views.half] = x.flip(-1)
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
        height = self.source.shape[0]
        y, x = (places + shifts).unbind(dim=-1)
        within = (y >= 0) & (y < height) & (x >= 0) & (x < self.width)
        y, x = y.clamp(0, height - 1), x.clamp(0, self.width - 1)
        at = y * self.width + x
        may = within & self._sources.take(at)
        return at, may if self.views.half is None else may & self.apart(places[:, 0], places[:, 1], y, x)

    def apart(self, y: Tensor, x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Whether pixels of the palette may be seen beside these of the photo: not if they mirror what is near."""
        half = self.views.half
        if half is None:
            return torch.ones_like(columns, dtype=torch.bool)
        least = _APART * half
        far = ((rows - y).abs() >= least) | ((self.photo_columns(columns) - x).abs() >= least)
        return ~self.mirrored(columns) | far

    def colors(self, at: Tensor) -> Tensor:
        """The colors of pixels of the palette, given their indices (n,): (n,3)."""
        if self.views.span is None:
            return self.image.flatten(1)[:, at].T
        height, width = self.source.shape
        rows, columns = at // self.width, at % self.width
        shown = self.photo_columns(columns).clamp(max=width - 1)
        colors = self.image.flatten(1)[:, rows * width + shown].T
        for (start, _), small in zip(self.views.scaled, self._smaller, strict=True):
            height, width = small.shape[1:]
            of = ((columns >= start) & (columns < start + width) & (rows < height)).nonzero()[:, 0]
            colors[of] = small[:, rows[of], columns[of] - start].T
        return colors

    def mirrored(self, columns: Tensor) -> Tensor:
        """Which of the palette's columns are of the mirror image; bool."""
        half = self.views.half
        if half is None:
            return torch.zeros_like(columns, dtype=torch.bool)
        return (columns >= half) & (columns < 2 * half) if self.views.scaled else columns >= half

    def photo_columns(self, columns: Tensor) -> Tensor:
        """Which of the photo's columns the palette's show; beyond the photo's width for those between its halves.

        Those of smaller copies stay as they are.
        """
        half = self.views.half
        if half is None:
            return columns
        return torch.where(self.mirrored(columns), 2 * half - 1 - columns, columns)

    @cached_property
    def _sources(self) -> Tensor:
        return self.spread(self.source)

    @cached_property
    def _smaller(self) -> list[Tensor]:
        return [_scaled(self.image, scale) for _, scale in self.views.scaled]


def _scaled(x: Tensor, scale: float) -> Tensor:
    """A picture (...,H,W), smaller; for bool, what is read from pixels that all are true."""
    picture = x.float().view(1, -1, *x.shape[-2:])
    small = functional.interpolate(
        picture, scale_factor=scale, mode="bicubic", antialias=True, recompute_scale_factor=False
    )
    small = small.view(*x.shape[:-2], *small.shape[-2:])
    return (small - 1).abs() < _WHOLLY if x.dtype == torch.bool else small.to(x)
