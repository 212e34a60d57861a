"""Means with intervals: bootstrap over photos.

Crops of one photo are not independent, so photos are drawn, with all their crops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

RESAMPLES = 2000
_LEVEL = 95  # percent of resamples within the interval


@dataclass(frozen=True)
class Estimate:
    """A value and the interval that 95 % of the resampled ones lie in."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


def bootstrap(
    groups: Sequence[str],
    statistic: Callable[[NDArray[np.intp]], float],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """A statistic of pictures, and its interval.

    Args:
        groups: the photo that each picture is from.
        statistic: of pictures given by their indices, each as often as it was drawn.
        resamples: how often photos are drawn with replacement.
        seed: of the drawing.
    """
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    photos = [np.asarray(indices, dtype=np.intp) for indices in members.values()]
    rng = np.random.default_rng(seed)
    drawn = [
        statistic(np.concatenate([photos[i] for i in rng.integers(len(photos), size=len(photos))]))
        for _ in range(resamples)
    ]
    tail = (100 - _LEVEL) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail]) if drawn else (np.nan, np.nan)
    return Estimate(statistic(np.arange(len(groups))), float(low), float(high))


def mean_of(values: Sequence[float], groups: Sequence[str]) -> Estimate:
    """Mean of a value of each picture. A value that is infinite, as the PSNR of equal pictures, makes it so."""
    array = np.asarray(values, dtype=np.float64)
    return bootstrap(groups, lambda indices: float(array[indices].mean()))


def difference_of(values: Sequence[float], others: Sequence[float], groups: Sequence[str]) -> Estimate:
    """Mean difference, picture by picture."""
    array = np.asarray(values, dtype=np.float64) - np.asarray(others, dtype=np.float64)
    return bootstrap(groups, lambda indices: float(array[indices].mean()))
