"""What can be copied: a photo, and beside it its mirror image.

A copy from the mirror image is a shift like any other, to columns beyond the photo's own, so that nothing else need
know of mirrors: one such shift reflects about one axis.
"""

from __future__ import annotations

import torch
from torch import Tensor

_APART = 0.25  # of the photo's width: nearer, a piece and its mirror image are seen together, as a blot's two halves


class Palette:
    """The pixels that may be copied at one level.

    Args:
        image: (3,H,W).
        hole: (H,W), bool.
        source: what may be copied; (H,W), bool.
        half: the column, at least W, at which the mirror image's half begins; what lies between the two cannot be
            copied. None for no mirror image.

    Attributes:
        image: as given.
        source: as given.
        known: what is not hole; (H,W), bool.
        half: as given.
        width: columns of the palette: those of the photo, or of both halves.
    """

    def __init__(self, image: Tensor, hole: Tensor, source: Tensor, half: int | None = None) -> None:
        self.image, self.source, self.known, self.half = image, source, ~hole, half
        self.width = image.shape[2] if half is None else 2 * half

    def spread(self, x: Tensor) -> Tensor:
        """What the photo has, (...,H,W), as the palette has it: mirrored in the second half; (...,H,P)."""
        if self.half is None:
            return x
        gap = x.new_zeros(*x.shape[:-1], self.half - x.shape[-1])
        return torch.cat([x, gap, gap, x.flip(-1)], dim=-1)

    def copied(self, places: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor]:
        """What places of the photo (n,2) copy at a shift (2,), at one each (n,2), or at several (...,n,2).

        Returns:
            Indices into the palette's pixels, rows one after the other, and whether they may be copied; (...,n) each.
            An index is of the nearest pixel where it would lie outside.
        """
        height, width = self.source.shape
        y, x = (places + shifts).unbind(dim=-1)
        within = (y >= 0) & (y < height) & (x >= 0) & (x < self.width)
        y, x = y.clamp(0, height - 1), x.clamp(0, self.width - 1)
        at = y * self.width + x
        if self.half is None:
            return at, within & self.source.take(at)
        shown = self.photo_columns(x)
        may = within & (shown < width) & self.source.take(y * width + shown.clamp(max=width - 1))
        return at, may & self.apart(places[:, 0], places[:, 1], y, x)

    def apart(self, y: Tensor, x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Whether pixels of the palette may be seen beside these of the photo: not if they mirror what is near."""
        if self.half is None:
            return torch.ones_like(columns, dtype=torch.bool)
        least = _APART * self.half
        far = ((rows - y).abs() >= least) | ((self.photo_columns(columns) - x).abs() >= least)
        return ~self.mirrored(columns) | far

    def colors(self, at: Tensor) -> Tensor:
        """The colors of pixels of the palette, given their indices (n,): (n,3)."""
        return self.image.flatten(1)[:, self.pixels(at)].T

    def pixels(self, at: Tensor) -> Tensor:
        """Indices of the photo's pixels that pixels of the palette (n,) show."""
        if self.half is None:
            return at
        width = self.image.shape[2]
        return at // self.width * width + self.photo_columns(at % self.width).clamp(max=width - 1)

    def mirrored(self, columns: Tensor) -> Tensor:
        """Which of the palette's columns are of the mirror image; bool."""
        return columns >= (self.source.shape[1] if self.half is None else self.half)

    def photo_columns(self, columns: Tensor) -> Tensor:
        """Which of the photo's columns the palette's show; beyond the photo's width for those between its halves."""
        if self.half is None:
            return columns
        return torch.where(self.mirrored(columns), 2 * self.half - 1 - columns, columns)
