"""Means with intervals: studentized bootstrap over photos.

Crops of one photo are not independent, so photos are drawn, with all their crops. The bootstrap is studentized (Efron
and Tibshirani, An Introduction to the Bootstrap, 1993, section 12.5), since intervals from the percentiles of resampled
means are too narrow for a dozen photos.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MIN_PHOTOS = 5  # with fewer there is no interval, as they say too little about how photos differ
_RESAMPLES = 2000
_LEVEL = 95  # percent


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % interval, whose ends are NaN where there are too few photos for one."""

    value: float
    low: float = float("nan")
    high: float = float("nan")

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


def mean_of(values: Sequence[float], groups: Sequence[str]) -> Estimate:
    """Mean over pictures, and its interval.

    Args:
        values: one for each picture. An infinite one, as the PSNR of equal pictures, makes the mean infinite.
        groups: the photo that each picture is from.
    """
    array = np.asarray(values, dtype=np.float64)
    names, photo_of = np.unique(np.asarray(groups), return_inverse=True)
    sums, counts = np.bincount(photo_of, weights=array), np.bincount(photo_of).astype(np.float64)
    if len(names) < MIN_PHOTOS or not np.isfinite(array).all():
        return Estimate(float(array.mean()))
    mean, error = _mean_and_error(sums, counts)
    drawn = np.random.default_rng(0).integers(len(names), size=(_RESAMPLES, len(names)))
    means, errors = _mean_and_error(sums[drawn], counts[drawn])
    usable = errors > 0  # leaves out draws of one photo throughout
    if not usable.any():  # all values are equal
        return Estimate(float(mean), float(mean), float(mean))
    tail = (100 - _LEVEL) / 2
    least, most = np.percentile((means[usable] - mean) / errors[usable], [tail, 100 - tail])
    return Estimate(float(mean), float(mean - most * error), float(mean - least * error))


def difference_of(values: Sequence[float], others: Sequence[float], groups: Sequence[str]) -> Estimate:
    """Mean difference, picture by picture; two infinite values differ by nothing."""
    a, b = np.asarray(values, dtype=np.float64), np.asarray(others, dtype=np.float64)
    return mean_of(np.subtract(a, b, out=np.zeros_like(a), where=a != b).tolist(), groups)


def _mean_and_error(sums: NDArray[Any], counts: NDArray[Any]) -> tuple[Any, Any]:
    """Mean over pictures and its standard error, by photos along the last axis."""
    total, photos = counts.sum(-1), sums.shape[-1]
    mean = sums.sum(-1) / total
    residuals = sums - np.expand_dims(mean, -1) * counts
    return mean, np.sqrt(photos / (photos - 1) * (residuals**2).sum(-1)) / total
