"""How far the work at a level is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

OnStep: TypeAlias = Callable[[float], object]
"""Called now and then with the share of a level's work that is done, 0 to 1. Where it gives true, the work ends with
what it has; what it raises ends it altogether."""


def unheard(_share: float) -> bool:
    """Nobody listens."""
    return False


def part(on_step: OnStep, start: float, stop: float) -> OnStep:
    """Tells of a part of the work, whose own shares lie between two of the whole's."""
    return lambda share: on_step(start + (stop - start) * share)
