"""Models in memory: the last used, each on one device."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from refiner.models.registry import load_model

if TYPE_CHECKING:
    from refiner.models.inpainter import Inpainter
    from refiner.web.offer import Choice

_MOST = 2  # that are kept


class Models:
    """Loads models, and keeps the last used."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], Inpainter] = {}
        self._loading = threading.Lock()

    def of(self, choice: Choice) -> Inpainter:
        """The model of a choice."""
        key = choice.model, choice.device  # one for each device: parallel jobs must not move it between devices
        with self._loading:
            if key not in self._kept:
                while len(self._kept) >= _MOST:
                    self._kept.pop(next(iter(self._kept)))
                self._kept[key] = load_model(choice.model, weights=choice.weights)
            self._kept[key] = self._kept.pop(key)
            return self._kept[key]
