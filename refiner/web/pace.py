"""How long work takes on this machine: learned from what it took before."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refiner.engine.plan import Plan
    from refiner.settings import Settings
    from refiner.web.offer import Choice


_CHOOSING = 2_500_000  # pixels that could be copied while it is chosen what to copy, whatever the photo's size


class Pace:
    """Seconds for each pixel and prediction, of each model on each device."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], float] = {}

    def seconds(self, choice: Choice, cost: float) -> float | None:
        """About how long work takes; None before anything was measured on its device."""
        others = (
            pace
            for (name, device), pace in self._known.items()
            if device == choice.device and name.rpartition(" ")[2] == choice.settings.detail
        )
        pace = self._known.get(_key(choice)) or next(others, None)
        return None if pace is None else cost * pace

    def learn(self, choice: Choice, cost: float, seconds: float) -> None:
        """Take what work took into account, the last as much as all before it."""
        key, pace = _key(choice), seconds / cost
        self._known[key] = (self._known.get(key, pace) + pace) / 2

    def forget(self) -> None:
        """Start anew."""
        self._known.clear()


def cost_of(plan: Plan, settings: Settings) -> float:
    """Work in pixels times predictions."""
    height, width = plan.image_size
    if not plan.network:
        return float(_CHOOSING + height * width)
    if not settings.refine:
        return float(height * width)
    smallest, *larger = plan.areas
    predictions = sum(area * settings.steps_at(scale) for scale, area in enumerate(larger))
    # The photo itself is read, halved and filled at full size once, at a small part of a prediction's cost.
    return height * width / 4 + smallest + predictions


def _key(choice: Choice) -> tuple[str, str]:
    settings = choice.settings
    return f"{choice.model} {settings.precision} {settings.refine} {settings.detail}", choice.device
