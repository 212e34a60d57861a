"""Decoded pictures kept in memory between requests: the last few, and none once nobody asks for any."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refiner.images.picture import Picture

_EACH = 3  # pictures of one photo: as it came, the round that is looked at, and one more


class Decoded:
    """Decoded pictures by photo and round; safe to use from several threads.

    Args:
        most: bytes that all take at most, unless one alone takes more.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._pictures: OrderedDict[tuple[str, int], Picture] = OrderedDict()  # the last used last
        self._used: dict[tuple[str, int], float] = {}

    def __len__(self) -> int:
        return len(self._pictures)

    def get(self, photo: str, number: int) -> Picture | None:
        """A picture that is kept; None where it is not."""
        key = photo, number
        with self._lock:
            if key in self._pictures:
                self._pictures.move_to_end(key)
                self._used[key] = time.monotonic()
            return self._pictures.get(key)

    def keep(self, photo: str, number: int, picture: Picture) -> None:
        """Keep a picture; beyond the limits, drop those used longest ago."""
        with self._lock:
            self._pictures[photo, number] = picture
            self._pictures.move_to_end((photo, number))
            self._used[photo, number] = time.monotonic()
            own = [key for key in self._pictures if key[0] == photo]
            for key in own[:-_EACH]:
                self._drop(key)
            while len(self._pictures) > 1 and self._total() > self._most:
                self._drop(next(iter(self._pictures)))

    def forget(self, photo: str) -> None:
        """Drop all pictures of a photo."""
        with self._lock:
            for key in [key for key in self._pictures if key[0] == photo]:
                self._drop(key)

    def drop_idle(self, seconds: float) -> bool:
        """Drop pictures that were not used for so long; gives whether there were any."""
        before = time.monotonic() - seconds
        with self._lock:
            idle = [key for key, used in self._used.items() if used < before]
            for key in idle:
                self._drop(key)
        return bool(idle)

    def _drop(self, key: tuple[str, int]) -> None:
        del self._pictures[key], self._used[key]

    def _total(self) -> int:
        return sum(
            picture.color.nbytes + (0 if picture.alpha is None else picture.alpha.nbytes)
            for picture in self._pictures.values()
        )
