"""What can fill a hole's larger scales: a choice that settings and models share."""

from __future__ import annotations

from typing import Literal

Detail = Literal["auto", "features", "exemplar", "both"]
"""See `refiner.Settings.detail`."""
