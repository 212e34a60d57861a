"""Where a photo and other views of it, its mirror image and smaller copies, lie beside one another, in columns."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


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
    def half(self) -> int | None:
        """The column at which the mirror image's half begins; None for no mirror image."""
        return self.span if self.mirrored else None

    def width(self, photo: int) -> int:
        """Columns of all views, given the photo's."""
        if self.span is None:
            return photo
        if self.scaled:
            start, scale = self.scaled[-1]
            return start + math.ceil(self.span * scale)
        return self._span_of_whole

    @property
    def _span_of_whole(self) -> int:
        assert self.span is not None  # noqa: S101  asked where there are other views
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
        """These, and smaller copies of the photo."""
        assert self.span is not None  # noqa: S101  asked where there is room for other views
        start, scaled = self._span_of_whole, []
        for scale in scales:
            scaled.append(Scaled(start, scale))
            start += math.ceil(self.span * scale)
        return replace(self, scaled=tuple(scaled))

    def used(self, columns: Tensor, *, mirrored: bool) -> Views:
        """Those of these views that columns are of, moved together; the mirror image stays where that says so."""
        view, count = torch.unique(self._view_of(columns), return_counts=True)
        enough = (view < _SCALED) | (count > _LEAST * len(columns))
        some = set(view[enough].tolist())
        kept = replace(self, mirrored=self.mirrored and (mirrored or _MIRROR in some), scaled=())
        scales = [scale for number, (_, scale) in enumerate(self.scaled) if number + _SCALED in some]
        if not kept.mirrored and not scales:
            return Views()
        return kept.with_scaled(scales)

    def moved(self, columns: Tensor, kept: Views) -> Tensor:
        """Columns of these views in others that have some of them; those of a view that is gone lie to the left."""
        begins = [self._start(view) for view in range(len(self.scaled) + _SCALED)]
        there = {scale: start for start, scale in kept.scaled}
        begin = [0, kept.half if self.mirrored else 0, *(there.get(scale) for _, scale in self.scaled)]
        by = [-self.width(0) - own if new is None else new - own for own, new in zip(begins, begin, strict=True)]
        return columns + torch.tensor(by)[self._view_of(columns)]

    def _start(self, view: int) -> int:
        if view < _SCALED:
            return (self.half or 0) if view == _MIRROR else 0
        return self.scaled[view - _SCALED].start

    def _view_of(self, columns: Tensor) -> Tensor:
        """0 for the photo, 1 for its mirror image, and from 2 on for smaller copies."""
        view = torch.zeros_like(columns)
        if self.mirrored:
            view[columns >= self._start(_MIRROR)] = _MIRROR
        for number, (start, _) in enumerate(self.scaled):
            view[columns >= start] = number + _SCALED
        return view


_LEAST = 0.02  # of the columns, that a smaller copy has to have
_MIRROR = 1
_SCALED = 2
