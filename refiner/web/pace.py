"""How long work takes on this machine, learned from earlier work."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refiner.engine.plan import Plan
    from refiner.settings import Settings
    from refiner.web.offer import Choice


_CHOOSING = 2_500_000  # choosing what to copy takes as long as copying so many pixels, at any size of the photo


class Pace:
    """Seconds per pixel and prediction, for each model on each device."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], float] = {}

    def seconds(self, choice: Choice, cost: float) -> float | None:
        """About how many seconds work of this cost takes; None before similar work was measured on its device."""
        others = (
            pace
            for (name, device), pace in self._known.items()
            if device == choice.device and name.rpartition(" ")[2] == choice.settings.detail
        )
        pace = self._known.get(_key(choice)) or next(others, None)
        return None if pace is None else cost * pace

    def learn(self, choice: Choice, cost: float, seconds: float) -> None:
        """Note how long work took; it counts as much as all earlier work together."""
        key, pace = _key(choice), seconds / cost
        self._known[key] = (self._known.get(key, pace) + pace) / 2

    def forget(self) -> None:
        """Forget all that was learned."""
        self._known.clear()


def cost_of(plan: Plan, settings: Settings) -> float:
    """The cost of work, in pixels times predictions."""
    height, width = plan.image_size
    if not plan.network:
        return float(_CHOOSING + height * width)
    if not settings.refine:
        return float(height * width)
    smallest, *larger = plan.areas
    predictions = sum(area * settings.steps_at(scale) for scale, area in enumerate(larger))
    # Reading, halving and filling the full-size photo once costs a small part of a prediction.
    return height * width / 4 + smallest + predictions


def _key(choice: Choice) -> tuple[str, str]:
    settings = choice.settings
    return f"{choice.model} {settings.precision} {settings.refine} {settings.detail}", choice.device
