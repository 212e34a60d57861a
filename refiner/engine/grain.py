"""The photo's grain on a network's fill, which has none.

Where a photo is flat and has least of fine detail, what it has is grain. Noise is made with the level, the spectrum
and the correlation of channels of such pieces: their mean power at each frequency, with random phases (Galerne,
Gousseau and Morel, "Random Phase Textures: Theory and Synthesis", TIP 2011). It is added as far as the fill's own
finest detail falls short of it, so that texture gets none.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from refiner.blur import gaussian_blur
from refiner.engine.padding import bands
from refiner.interruption import breathe
from refiner.regions import regions_of

_PIECE = 16  # pixels, the side of a piece
_STRIDE = 8  # at least; larger so that there are at most about so many pieces
_MANY = 4000
_FEWEST, _SHARE = 6, 0.02  # pieces of which grain can be told, and of those known
_COARSE = 0.6  # the blurred piece over the piece: white noise has 0.28, most grain 0.4 to 0.55, what is blurred more
_WEAKEST = 0.05  # the quantile of pieces' strengths that is grain's: all that a photo shows beside it adds to it
_SPREAD = 1.5  # the pieces that count are at most so much stronger or weaker than that
_LEAST, _MOST = 0.75 / 255, 6 / 255  # standard deviation; below it is rounding, above it texture
_NEAR = 17  # pixels, over which a fill's own detail is averaged
_BLACK, _WHITE = 0.01, 0.99  # beyond, grain is clipped
_FINE = 5  # pixels, the side of the blur that the finest detail is what it takes away


def add_grain(prediction: Tensor, image: Tensor, hole: Tensor, seed: int = 0) -> Tensor:
    """Give a prediction the grain that the photo has.

    Args:
        prediction: (N,3,H,W), of the whole picture; it is clamped to [0,1].
        image: (N,3,H,W) in [0,1], the photo.
        hole: (N,1,H,W), bool.
        seed: of the grain.

    Returns:
        (N,3,H,W) in [0,1], the same each time; outside the hole, and where the photo has no grain, as it was.
    """
    grainy = prediction.clamp(0, 1)
    for index in range(len(hole)):
        noise = torch.Generator().manual_seed(seed)
        pieces = _flat_pieces(image[index], hole[index])
        if pieces is None:
            continue
        for region in regions_of(hole[index]):
            fill = region.window.of(grainy[index : index + 1])
            grain = _laid(pieces, region.window.size, noise)
            lacking = _lacking(fill, grain, region.mask[None, None])
            fill.copy_(torch.where(region.mask, (fill + lacking * grain).clamp(0, 1), fill))
    return grainy


def _flat_pieces(image: Tensor, hole: Tensor) -> Tensor | None:
    """Grain of flat known pieces, less their mean and slope; (K,3,s,s), None where there are too few or no grain.

    Args:
        image: (3,H,W).
        hole: (1,H,W), bool.
    """
    if min(image.shape[-2:]) < _PIECE:
        return None
    stride = max(_STRIDE, round((image.shape[-2] * image.shape[-1] / _MANY) ** 0.5))
    pieces = _cut(image, stride)[~_cut(hole, stride).flatten(2).any(dim=2)]
    lit = ((pieces > _BLACK) & (pieces < _WHITE)).flatten(1).float().mean(dim=1) > 0.99  # noqa: PLR2004  all but specks
    pieces = pieces[lit]
    if len(pieces) < _FEWEST:
        return None
    grain = _leveled(pieces)
    fine = _fine(grain)
    strength = fine.flatten(1).std(dim=1)
    # Grain is everywhere: the pieces that have least of the finest detail say how strong it can be.
    weakest = strength.quantile(_WEAKEST)
    alike = (strength < _SPREAD * weakest) & (strength > weakest / _SPREAD)
    flat = (grain - fine).flatten(1).std(dim=1) < _COARSE * grain.flatten(1).std(dim=1)
    chosen = grain[alike & flat]
    enough = len(chosen) >= max(_FEWEST, _SHARE * len(grain))
    return chosen if enough and _LEAST < chosen.std() < _MOST else None


def _cut(x: Tensor, stride: int) -> Tensor:
    """Pieces of (C,h,w) as a view, (rows,columns,C,s,s)."""
    return x.unfold(1, _PIECE, stride).unfold(2, _PIECE, stride).permute(1, 2, 0, 3, 4)


def _leveled(pieces: Tensor) -> Tensor:
    """Pieces less their mean, slope and bend."""
    t = torch.linspace(-1, 1, _PIECE, dtype=pieces.dtype, device=pieces.device)
    y, x = t[:, None].expand(_PIECE, _PIECE), t[None].expand(_PIECE, _PIECE)
    surfaces = torch.stack([torch.ones_like(x), x, y, x * y, x * x, y * y]).flatten(1)  # (6,s*s)
    basis = torch.linalg.qr(surfaces.T).Q
    flat = pieces.flatten(2)
    leveled: Tensor = flat - (flat @ basis) @ basis.T
    return leveled.view_as(pieces)


def _laid(pieces: Tensor, size: tuple[int, int], noise: torch.Generator) -> Tensor:
    """Grain over a box of this height and width, (1,3,h,w)."""
    height, width = size
    white = torch.randn(1, 3, height + _PIECE - 1, width + _PIECE - 1, generator=noise, dtype=torch.float32)
    white = white.to(pieces)
    kernel = _kernel(pieces.cpu()).to(white)  # not every device has this algebra
    laid = []
    for rows in bands(height):
        breathe()
        laid.append(functional.conv2d(white[..., rows.start : rows.stop + _PIECE - 1, :], kernel))
    return torch.cat(laid, dim=2)


def _kernel(pieces: Tensor) -> Tensor:
    """What turns white noise in three channels into grain by convolution: (3,3,s,s)."""
    hann = torch.hann_window(_PIECE, dtype=pieces.dtype, device=pieces.device)  # otherwise edges add to the spectrum
    window = (hann[:, None] * hann[None]).sqrt()
    spectra = torch.fft.fft2(pieces * window / window.square().mean().sqrt(), norm="ortho").permute(2, 3, 1, 0)
    power = spectra @ spectra.mH / len(pieces)  # of each two channels at each frequency; (s,s,3,3)
    values, vectors = torch.linalg.eigh(power)
    root = vectors @ torch.diag_embed(values.clamp(min=0).sqrt()).to(vectors) @ vectors.mH
    kernel: Tensor = torch.fft.fftshift(torch.fft.ifft2(root.permute(2, 3, 0, 1)).real, dim=(-2, -1))
    return kernel


def _lacking(fill: Tensor, grain: Tensor, mask: Tensor) -> Tensor:
    """What share of the grain's strength the fill's finest detail lacks, pixel by pixel; (1,1,h,w)."""
    wanted = _power(grain).mean()
    inside = mask.to(fill)
    own = _averaged(inside * _power(fill)) / _averaged(inside).clamp(min=1e-6)
    return (1 - own / wanted.clamp(min=1e-12)).clamp(min=0).sqrt()


def _averaged(x: Tensor) -> Tensor:
    rows = functional.avg_pool2d(x, (_NEAR, 1), 1, (_NEAR // 2, 0))
    return functional.avg_pool2d(rows, (1, _NEAR), 1, (0, _NEAR // 2))


def _power(x: Tensor) -> Tensor:
    """Of the finest detail, pixel by pixel, the mean of the channels; (1,1,h,w)."""
    height, parts = x.shape[-2], []
    for rows in bands(height):
        above, below = max(rows.start - _FINE, 0), min(rows.stop + _FINE // 2, height)
        fine = _fine(x[..., above:below, :])
        parts.append(fine.square().mean(dim=1, keepdim=True)[..., rows.start - above : rows.stop - above, :])
    return torch.cat(parts, dim=2)


def _fine(x: Tensor) -> Tensor:
    return x - gaussian_blur(x, _FINE, 1.0, "reflect")
