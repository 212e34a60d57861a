"""How long work takes on this machine, learned from earlier work and remembered from one start to the next."""

from __future__ import annotations

import json
import logging
import threading
from typing import TYPE_CHECKING

from refiner.errors import RefinerError
from refiner.files import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

    from refiner.engine.plan import Plan
    from refiner.settings import Settings
    from refiner.web.offer import Choice


_CHOOSING = 2_500_000  # choosing what to copy takes as long as copying so many pixels, at any size of the photo
_MOST = 200  # kinds of work that are remembered
_log = logging.getLogger(__name__)


class Pace:
    """Seconds per pixel and prediction, for each model on each device.

    Args:
        file: remembers them; None to forget them at the end.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._known = {} if file is None else _read(file)

    def seconds(self, choice: Choice, cost: float) -> float | None:
        """About how many seconds work of this cost takes; None before similar work was measured on its device."""
        others = (
            pace
            for key, pace in list(self._known.items())
            if key.endswith(f" {choice.settings.detail} {choice.device}")
        )
        pace = self._known.get(_key(choice)) or next(others, None)
        return None if pace is None else cost * pace

    def knows(self, choice: Choice) -> bool:
        """Whether such work was measured before."""
        return _key(choice) in self._known

    def learn(self, choice: Choice, cost: float, seconds: float) -> None:
        """Note how long work took; it counts as much as all earlier work together."""
        key, pace = _key(choice), seconds / cost
        with self._lock:
            known = dict(self._known)
            known[key] = (known.pop(key, pace) + pace) / 2  # now the last one
            self._known = dict(list(known.items())[-_MOST:])
            if self._file is not None:
                try:
                    write_atomic({self._file: json.dumps(self._known).encode()})
                except RefinerError as error:  # it is only a convenience
                    _log.warning("%s", error)


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


def _key(choice: Choice) -> str:
    settings = choice.settings
    model = choice.model.replace(" ", "_")
    return f"{model} {settings.precision} {settings.refine} {settings.start} {settings.detail} {choice.device}"


def _read(file: Path) -> dict[str, float]:
    """What a file remembers; nothing where it is missing or damaged."""
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        return {str(key): float(pace) for key, pace in known.items() if 0 < pace < 1}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
