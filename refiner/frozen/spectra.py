"""The inverse real FFT of spectra that no real picture has."""

from __future__ import annotations

import torch
from torch import Tensor


def inverse_rfft2(spectrum: Tensor, size: tuple[int, int], norm: str | None = None) -> Tensor:
    """The real picture nearest to a half spectrum; differentiable.

    A real picture's spectrum is conjugate symmetric, so half of it says all, but the half's first column, and at even
    widths its last, hold both ends of that symmetry. Where something was done to a spectrum, such as a convolution,
    the two ends disagree. What `irfft2` makes of that is left open by its documentation, and differs between CPU, cuFFT
    and Metal (pytorch issues 104867, 126649, 154496). Here it is the mean of the two, on every device: transforming the
    rows first leaves each of these columns real where the ends agree, and an imaginary part where they do not, which
    is dropped.

    Args:
        spectrum: (...,H,W//2+1), complex, as `torch.fft.rfft2` gives it. Never written to.
        size: H, W.
        norm: as of `torch.fft.irfft2`.

    Returns:
        (...,H,W).
    """
    rows = torch.fft.ifft(spectrum, n=size[0], dim=-2, norm=norm)
    ends = torch.view_as_real(rows)
    ends[..., 0, 1] = 0
    if size[1] % 2 == 0:
        ends[..., -1, 1] = 0
    picture: Tensor = torch.fft.irfft(rows, n=size[1], dim=-1, norm=norm)
    return picture
