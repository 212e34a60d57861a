"""Tells of progress, and how long the work will go on: learned from what it took so far."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from refiner.engine.result import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from refiner.engine.plan import Plan
    from refiner.settings import Settings

_FIRST = 0.5  # of a prediction's time is what the first takes: no update comes before it
_CARRIED = 0.1  # share of a scale's work that the pace of the scale before counts for, beside its own


class Reporter:
    """Tells callbacks how the work is done and how far it is.

    Args:
        progress: called after each prediction; None for none.
        on_plan: called with each plan; None for none.
        scales: how many there are.
        settings: of the refinement.
    """

    def __init__(
        self,
        progress: Callable[[Progress], object] | None,
        on_plan: Callable[[Plan], object] | None,
        scales: int,
        settings: Settings,
    ) -> None:
        self._progress, self._on_plan, self._scales, self._settings = progress, on_plan, scales, settings
        self._here = Progress(scale=1, scales=scales, size=(0, 0))
        self._forecast = Forecast()

    def planned(self, plan: Plan) -> None:
        """Take a plan, or a new one, after which the scale in work starts anew."""
        # The smallest scale is one pass, which is over before it says anything of predictions with updates.
        works = [area * duration(self._settings.steps_at(n)) for n, area in enumerate(plan.areas[1:])]
        self._forecast.expect([0, *works])
        self._forecast.begin(self._here.scale)
        if self._on_plan is not None:
            self._on_plan(plan)

    def at(self, scale: int, size: tuple[int, int]) -> Progress:
        """Go on to a scale."""
        self._forecast.begin(scale)
        self._here = Progress(scale=scale, scales=self._scales, size=size)
        return self._here

    def step(self, step: int, steps: int) -> None:
        """Tell of a step that is no prediction."""
        if self._progress is not None:
            self._progress(replace(self._here, step=step, steps=steps, scale_done=step / steps))

    @property
    def tell(self) -> Callable[[Progress], object] | None:
        """What a prediction is told to; None where nobody listens."""
        return None if self._progress is None else self._prediction

    def _prediction(self, progress: Progress) -> None:
        assert self._progress is not None  # noqa: S101  else nothing is told
        if progress.loss is not None:
            left = self._forecast.left(progress.scale, progress.scale_done, sure=progress.step > 1)
            progress = replace(progress, seconds_left=left)
        self._progress(progress)


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
