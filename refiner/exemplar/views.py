"""Where a photo and other views of it, its mirror image and smaller copies, lie beside one another, in columns."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

MIRROR, SCALED = 1, 2  # numbers of views: 0 is the photo, those of smaller copies begin at the last
GAP = 8  # part of its width left empty beside a view: a piece across is reflected at the photo's edge
_LEAST = 0.02  # of a part of the hole, that has to copy from a smaller copy for it to be kept


class Scaled(NamedTuple):
    """A smaller copy of the photo: the column at which it begins, and its size in terms of the photo's, below 1."""

    start: int
    scale: float


@dataclass(frozen=True)
class Views:
    """What can be copied beside the photo itself, at one level.

    Attributes:
        span: columns that the photo takes, at least its width, where there are other views; what lies between two views
            is empty. None for the photo alone.
        mirrored: whether its mirror image follows, at the end of as many columns.
        scaled: smaller copies, after it.
    """

    span: int | None = None
    mirrored: bool = False
    scaled: tuple[Scaled, ...] = ()

    @property
    def mirror(self) -> int | None:
        """The column at which the mirror image's part begins, `span` columns wide; None for no mirror image."""
        return self.span if self.mirrored else None

    def width(self, photo: int) -> int:
        """Columns of all views, given the photo's."""
        if self.span is None:
            return photo
        if self.scaled:
            start, scale = self.scaled[-1]
            return start + math.ceil(self.span * scale)
        return 2 * self.span if self.mirrored else self.span

    def doubled(self) -> Views:
        """The same at twice the size: shifts can be doubled."""
        span = None if self.span is None else 2 * self.span
        return replace(self, span=span, scaled=tuple(Scaled(2 * start, scale) for start, scale in self.scaled))

    def halved(self, photo: int) -> Views:
        """The same at half the size, given the photo's columns there."""
        span = None if self.span is None else max(self.span // 2, photo)
        return replace(self, span=span, scaled=tuple(Scaled(start // 2, scale) for start, scale in self.scaled))

    def with_scaled(self, scales: Sequence[float]) -> Views:
        """The photo, its mirror image where there is one, and smaller copies."""
        assert self.span is not None  # noqa: S101  asked where there is room for other views
        start = (2 if self.mirrored else 1) * self.span + self.span // GAP  # the mirror image ends where its part does
        scaled = []
        for scale in scales:
            scaled.append(Scaled(start, scale))
            start += math.ceil(self.span * scale)
        return replace(self, scaled=tuple(scaled))

    def of(self, columns: Tensor) -> Tensor:
        """The numbers of the views that columns lie in."""
        view = torch.zeros_like(columns)
        if self.mirror is not None:
            view[columns >= self.mirror] = MIRROR
        for number, (start, _) in enumerate(self.scaled):
            view[columns >= start] = number + SCALED
        return view

    def used(self, columns: Tensor, part_of: Tensor, *, mirrored: bool) -> Views:
        """The views that columns lie in, without room for others; smaller copies only where some part has much of one.

        Args:
            columns: that are copied; (n,).
            part_of: the part of the hole that each is copied to; (n,).
            mirrored: whether the mirror image stays anyway.
        """
        view, count = self.of(columns), int(part_of.max()) + 1
        pixels = torch.bincount(part_of, minlength=count)
        shares = [
            float((torch.bincount(part_of[view == number + SCALED], minlength=count) / pixels).max())
            for number in range(len(self.scaled))
        ]
        scales = [scale for share, (_, scale) in zip(shares, self.scaled, strict=True) if share > _LEAST]
        kept = replace(self, mirrored=self.mirrored and (mirrored or bool((view == MIRROR).any())), scaled=())
        return kept.with_scaled(scales) if kept.mirrored or scales else Views()

    def moved(self, columns: Tensor, kept: Views) -> Tensor:
        """Columns of these views in others that have some of them; below 0 where the view is gone."""
        there = {scale: start for start, scale in kept.scaled}
        begins = [0, self.mirror or 0, *(start for start, _ in self.scaled)]
        others = [0, kept.mirror if self.mirrored else 0, *(there.get(scale) for _, scale in self.scaled)]
        gone = -self.width(0) - 1
        by = [gone if new is None else new - own for own, new in zip(begins, others, strict=True)]
        return columns + torch.tensor(by)[self.of(columns)]
