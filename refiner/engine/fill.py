"""What fills a scale's hole: the network's features, the photo's own pixels, a given fill, or what holds better."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from refiner.engine.back_projection import add_detail
from refiner.engine.judge import network_holds
from refiner.engine.network import Fill, shares
from refiner.engine.padding import size_of
from refiner.exemplar import Exemplar, Level, part
from refiner.regions import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from refiner.engine.network import Network
    from refiner.engine.plan import Plan
    from refiner.engine.reporter import Reporter
    from refiner.engine.result import Progress

_LOSSES = 2  # scales at which the network loses everywhere before it is not run any more


class Filler:
    """Fills the scales of one photo, the smallest first, by who the plan says.

    Args:
        plan: who fills what, and within which windows it is copied.
        levels: image (1,3,h,w) and hole (1,1,h,w) of each scale, and of those below that copies need, the smallest
            first.
        network: runs the network; None where the plan does not.
        given: a fill (1,3,h,w) that takes the smallest scale's place; None for none.
        avoid: what must not be copied, (1,1,H,W), bool; None for nothing.
        seed: of copies.
        reporter: is told while copies are chosen.
    """

    def __init__(
        self,
        plan: Plan,
        levels: Sequence[tuple[Tensor, Tensor]],
        network: Network | None,
        *,
        given: Tensor | None,
        avoid: Tensor | None,
        seed: int,
        reporter: Reporter,
    ) -> None:
        self._plan, self._levels = plan, levels
        self._below = len(levels) - len(plan.sizes)
        self._network, self._given = network, given
        self._avoid, self._seed, self._reporter = avoid, seed, reporter
        self._copies: Copies | None = None  # chosen by the rim alone
        self._following: Copies | None = None  # chosen to look like the smallest scale's fill
        self._first: Tensor | None = None  # the smallest scale's composite
        self._of_network: Tensor | None = None  # where that is not copied
        self._losses = 0

    def smallest(self, here: Progress) -> Fill:
        """Fill the smallest scale."""
        image, hole = self._level(here)
        start = self._plan.start
        if start == "exemplar":
            fill = Fill(self._copied(here), shares={"exemplar": 1.0})
            self._of_network = torch.zeros_like(hole)
        elif start == "guide":
            assert self._given is not None  # noqa: S101  that is what the plan was made for
            fill = Fill(_resized(self._given, size_of(image)), shares={"guide": 1.0})
            self._of_network = hole
        else:
            assert self._network is not None  # noqa: S101  likewise
            fill = self._network.inpaint(image, hole, here)
            self._of_network = hole
            if start == "auto" and not self._reporter.stopped:
                fill = self._judged(fill, self._copied(here), hole, image, "model")
        self._first = torch.where(hole, fill.prediction.clamp(0, 1), image)
        return fill

    def larger(self, coarse: Tensor, here: Progress) -> Fill:
        """Fill a larger scale, given the composite of the scale below it."""
        image, hole = self._level(here)
        detail = self._plan.detail
        if detail == "features":
            return self._refined(image, hole, coarse, here)
        if detail == "exemplar":
            follow = self._plan.start != "exemplar"
            return Fill(self._copied(here, follow=follow), shares={"exemplar": 1.0})
        assert self._of_network is not None  # noqa: S101  known from the smallest scale on
        of_network = (functional.interpolate(self._of_network.float(), size=size_of(hole), mode="nearest") > 0) & hole
        refined = None
        if detail == "auto" and of_network.any() and self._losses < _LOSSES:
            refined = self._refined(image, hole, coarse, here)
            if self._reporter.stopped and torch.equal(of_network, hole):
                return refined
        other = self._copied(here) if (hole & ~of_network).any() else image
        if of_network.any():
            detailed = add_detail(coarse, self._copied(here, follow=True), image, hole)
            other = torch.where(of_network, detailed, other)
        if refined is None:
            return Fill(other, shares=shares(hole, both=of_network, exemplar=~of_network))
        fill = self._judged(refined, other, hole, image, "features", of_network)
        self._losses = 0 if "features" in fill.shares else self._losses + 1
        return fill

    def _judged(
        self, fill: Fill, other: Tensor, hole: Tensor, image: Tensor, name: str, among: Tensor | None = None
    ) -> Fill:
        """The network's fill in the regions of the hole in which it holds; another one elsewhere."""
        prediction = fill.prediction.clamp(0, 1)
        kept = network_holds(torch.where(hole, prediction, image), torch.where(hole, other, image), hole)
        if among is None:
            self._of_network = kept
            parts = {name: kept, "exemplar": ~kept}
        else:
            kept &= among
            parts = {name: kept, "both": among & ~kept, "exemplar": ~among}
        # Outside the hole it stays the network's: how it is off there tells how its colors are off.
        mixed = torch.where(kept | ~hole, prediction, other)
        return Fill(mixed, fill.windows, shares(hole, **parts))

    def _refined(self, image: Tensor, hole: Tensor, coarse: Tensor, here: Progress) -> Fill:
        assert self._network is not None  # noqa: S101  features are the network's
        return self._network.refine(image, hole, coarse, here)

    def _level(self, here: Progress) -> tuple[Tensor, Tensor]:
        return self._levels[self._below + here.scale - 1]

    def _copied(self, here: Progress, *, follow: bool = False) -> Tensor:
        """The scale's image with its hole filled by copying."""
        if follow and self._following is None:
            self._following = self._chosen(self._first)
        if not follow and self._copies is None:
            self._copies = self._chosen(None)
        copies = self._following if follow else self._copies
        assert copies is not None  # noqa: S101  made above
        return copies.render(self._below + here.scale - 1)

    def _chosen(self, follow: Tensor | None) -> Copies:
        return Copies(self._levels, self._plan, self._avoid, follow, self._seed, self._reporter.copying)


class Copies:
    """A photo's holes filled by copying, each within its window of the plan.

    Windows lie on the same pixels at every level: they start at multiples of what a pixel of the smallest spans.

    Args:
        levels: image and hole of each level, the smallest first.
        plan: has the windows.
        avoid: what must not be copied, (1,1,H,W), bool; None for nothing.
        follow: the smallest scale's composite, which copies are chosen to look like; None to go by the rim alone.
        seed: of what is drawn at random.
        on_step: see `Exemplar`.
    """

    def __init__(
        self,
        levels: Sequence[tuple[Tensor, Tensor]],
        plan: Plan,
        avoid: Tensor | None,
        follow: Tensor | None,
        seed: int,
        on_step: Callable[[float], bool],
    ) -> None:
        self._levels, self._windows = levels, plan.copy_windows
        self._exemplars = []
        for number, window in enumerate(self._windows):
            told = part(on_step, number / len(self._windows), (number + 1) / len(self._windows))
            places = [self._at(window, index) for index in range(len(levels))]
            self._exemplars.append(
                Exemplar(
                    [Level(at.of(image), at.of(hole)) for at, (image, hole) in zip(places, levels, strict=True)],
                    avoid=None if avoid is None else window.of(avoid),
                    follow=None if follow is None else places[len(levels) - len(plan.sizes)].of(follow),
                    seed=seed,
                    on_step=told,
                )
            )

    def render(self, index: int) -> Tensor:
        """A level's image with its hole filled; (1,3,H,W)."""
        filled = self._levels[index][0].clone()
        for window, exemplar in zip(self._windows, self._exemplars, strict=True):
            self._at(window, index).of(filled).copy_(exemplar.render(index))
        return filled

    def _at(self, window: Window, index: int) -> Window:
        """A window of the full size at a level."""
        halvings = len(self._levels) - 1 - index
        full, size = size_of(self._levels[-1][0]), size_of(self._levels[index][0])
        stops = [
            side if edge == whole_side else edge >> halvings
            for edge, side, whole_side in zip((window.bottom, window.right), size, full, strict=True)
        ]
        return Window(window.top >> halvings, window.left >> halvings, *stops)


def _resized(fill: Tensor, size: tuple[int, int]) -> Tensor:
    resized = functional.interpolate(fill, size=size, mode="bilinear", align_corners=False, antialias=True)
    return resized.clamp(0, 1)
