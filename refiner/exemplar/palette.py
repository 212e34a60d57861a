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
        half: columns up to the mirror image, at least W; those between are nobody's. None for no mirror image.

    Attributes:
        image: (3,H,P), the photo first.
        source: (H,P), bool.
        known: what is not hole; (H,P), bool.
        half: as given.
    """

    def __init__(self, image: Tensor, hole: Tensor, source: Tensor, half: int | None = None) -> None:
        self.half = half
        self.image, self.source, self.known = (self.spread(each) for each in (image, source, ~hole))

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
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        at = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
        may = inside & self.source.flatten()[at]
        if self.half is not None:
            away = torch.stack([y - places[:, 0], self.photo_columns(x) - places[:, 1]]).abs().amax(dim=0)
            may &= ~self.mirrored(x) | (away >= _APART * self.half)
        return at, may

    def mirrored(self, columns: Tensor) -> Tensor:
        """Which of the palette's columns are of the mirror image; bool."""
        return columns >= (self.source.shape[1] if self.half is None else self.half)

    def photo_columns(self, columns: Tensor) -> Tensor:
        """Which of the photo's columns the palette's show."""
        if self.half is None:
            return columns
        return torch.where(self.mirrored(columns), 2 * self.half - 1 - columns, columns)
