"""Values that settings and models choose from."""

from __future__ import annotations

from typing import Literal

Detail = Literal["auto", "features", "exemplar", "both"]
"""What fills the larger scales, see `refiner.Settings`."""
GuideSource = Literal["auto", "model", "exemplar"]
"""What fills the smallest scale."""
