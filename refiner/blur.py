"""Gaussian blur, by kornia."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def gaussian_blur(x: Tensor, side: int, sigma: float, border: str) -> Tensor:
    """Blur pictures (N,C,H,W) with a Gaussian of `sigma` pixels that is cut off to `side` pixels.

    Args:
        x: the pictures.
        side: odd.
        sigma: in pixels.
        border: how pictures go on beyond their edges: `reflect`, `replicate`, `constant` or `circular`.
    """
    from kornia.filters import gaussian_blur2d  # noqa: PLC0415  all of kornia, a third of a second, is seldom needed

    blurred: Tensor = gaussian_blur2d(x, (side, side), (sigma, sigma), border_type=border)
    return blurred
