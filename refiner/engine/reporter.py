"""Tells of progress, and how long the work will go on: learned from what it took so far."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from refiner.engine.optimize import StopRefinement
from refiner.engine.result import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from refiner.engine.plan import Plan
    from refiner.engine.result import ScaleResult
    from refiner.settings import Settings

_FIRST = 0.5  # of a prediction's time is what the first takes: no update comes before it
_COPY_STEPS = 100  # that copying counts as
_CARRIED = 0.1  # share of a scale's work that the pace of the scale before counts for, beside its own


class Reporter:
    """Tells callbacks how the work on one image is done and how far it is, and remembers where one asks to stop.

    Args:
        progress: called after each prediction; None for none.
        on_plan: called with each plan; None for none.
        on_scale: called with each scale's result; None for none.
        settings: of the refinement.
        image: which image of the batch, from 1.
        images: how many there are.
        stopped: whether the work was stopped before this image.

    Attributes:
        stopped: whether a callback asked to stop.
    """

    def __init__(
        self,
        progress: Callable[[Progress], object] | None = None,
        on_plan: Callable[[Plan], object] | None = None,
        on_scale: Callable[[ScaleResult], object] | None = None,
        *,
        settings: Settings,
        image: int = 1,
        images: int = 1,
        stopped: bool = False,
    ) -> None:
        self._progress, self._on_plan, self._on_scale, self._settings = progress, on_plan, on_scale, settings
        self._here = Progress(scale=1, scales=1, size=(0, 0), image=image, images=images)
        self._forecast = Forecast()
        self.stopped = stopped

    @property
    def listens(self) -> bool:
        """Whether predictions are told to anybody, for which their losses are read."""
        return self._progress is not None

    def planned(self, plan: Plan) -> None:
        """Take a plan, or a new one, after which the scale in work starts anew."""
        # The smallest scale is one pass, which is over before it says anything of predictions with updates.
        works = [area * duration(self._settings.steps_at(n)) for n, area in enumerate(plan.areas[1:])]
        self._forecast.expect([0, *works])
        self._forecast.begin(self._here.scale)
        if self._on_plan is not None:
            self._on_plan(plan)

    def at(self, scale: int, plan: Plan) -> Progress:
        """Go on to a scale, from 1."""
        self._forecast.begin(scale)
        self._here = replace(self._here, scale=scale, scales=len(plan.sizes), size=plan.sizes[scale - 1])
        return self._here

    def copying(self, share: float) -> bool:
        """Tell what share of a scale's copying is done; whether the work is to end with what there is."""
        if self._progress is not None and not self.stopped:
            try:
                step = 1 + round(share * (_COPY_STEPS - 1))
                self._progress(replace(self._here, step=step, steps=_COPY_STEPS, scale_done=share))
            except StopRefinement:
                self.stopped = True
        return self.stopped

    def prediction(self, progress: Progress) -> None:
        """Tell of a prediction.

        Raises:
            StopRefinement: the work is to end with what there is.
        """
        if self._progress is None:
            return
        if progress.loss is not None:
            left = self._forecast.left(progress.scale, progress.scale_done, sure=progress.step > 1)
            progress = replace(progress, seconds_left=left)
        try:
            self._progress(progress)
        except StopRefinement:
            self.stopped = True
            raise

    def scale(self, result: ScaleResult) -> None:
        """Tell of a scale that is done."""
        if self._on_scale is not None:
            try:
                self._on_scale(result)
            except StopRefinement:
                self.stopped = True


def duration(steps: int) -> float:
    """How long predictions take, in predictions with their updates."""
    return steps - 1 + _FIRST


class Forecast:
    """Seconds that are left.

    Args:
        clock: gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._works: Sequence[float] = ()
        self._scale, self._began = 0, 0.0
        self._pace: float | None = None  # seconds for a unit of work, at the last scale that had any

    def expect(self, works: Sequence[float]) -> None:
        """Take the work of each scale, the smallest first, in any unit; 0 where it is not known."""
        self._works = works

    def begin(self, scale: int) -> None:
        """A scale, from 1, begins; or begins anew."""
        now = self._clock()
        if scale > self._scale and self._work(self._scale):
            self._pace = (now - self._began) / self._work(self._scale)
        self._scale, self._began = scale, now

    def left(self, scale: int, done: float, *, sure: bool) -> float | None:
        """Seconds until the last scale is done; None where that is not known yet.

        Args:
            scale: in work, from 1.
            done: share of it.
            sure: whether that is enough to go by where no scale was done before.
        """
        here = self._work(scale)
        if not here or (self._pace is None and not sure and done < 1):
            return None
        weight = 0.0 if self._pace is None else _CARRIED * here
        seconds = self._clock() - self._began + weight * (self._pace or 0.0)
        pace = seconds / (weight + here * done)
        return pace * (here * (1 - done) + sum(self._works[scale:]))

    def _work(self, scale: int) -> float:
        return self._works[scale - 1] if 0 < scale <= len(self._works) else 0.0
