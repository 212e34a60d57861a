"""Signs that a picture was filled, measured without the real picture: grid, seams, lost octaves, disagreement.

Pictures are (N,3,H,W), floating point in [0,1]; holes (N,1,H,W), bool, at least one pixel each, with known pixels
beside them. Every measure gives one value for each picture of the batch. Rim, seams and octaves compare the fill with
the ring: the photo's own known pixels around the hole.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from refiner.blur import gaussian_blur
from refiner.errors import InputError

OCTAVES = 3
PERIODS = (2, 4, 8, 16)  # pixels; upsampling layers leave grids at powers of 2
RING = 24  # width in pixels of the ring
_LEAST = 1e-6  # smallest divisor
_WEIGHTS = (0.299, 0.587, 0.114)  # of ITU-R BT.601 luma


@dataclass(frozen=True)
class Looks:
    """How a fill looks beside the photo around it; tensors with one value for each picture, (N,).

    Attributes:
        grid: spread of fine detail over the phases of periods of 2 to 16 px, see `grid`.
        rim: steps across the hole's edge over those beside it; 1 where the edge does not show, see `rim`.
        octaves: strength of each octave in the fill over that in the ring, the finest first; (N, OCTAVES).
    """

    grid: Tensor
    rim: Tensor
    octaves: Tensor

    @property
    def sharpness(self) -> Tensor:
        """The finest of `octaves`: (N,)."""
        return self.octaves[:, 0]


def looks(picture: Tensor, hole: Tensor, region: Tensor | None = None) -> Looks:
    """All measures of a fill.

    Args:
        picture: with its hole filled.
        hole: what was filled.
        region: where to measure; bool, (N,1,H,W); all of the hole where None.

    Raises:
        InputError: shapes do not fit each other, or there is nothing to measure.
    """
    region = hole if region is None else region & hole
    _check(picture, hole, region)
    return Looks(grid(picture, region), rim(picture, hole, region), octaves(picture, hole, region))


def grid(picture: Tensor, region: Tensor) -> Tensor:
    """How unevenly fine detail is spread over the phases of a period: (N,), about 0 for photos.

    For each period of 2, 4, 8 and 16 px, along rows and along columns, detail and its strength are averaged at each
    phase. Their standard deviation over the phases, relative to the mean strength, is large where the upsampling of a
    network left a grid. The largest value counts.
    """
    _check(picture, region, region)
    detail = _detail(_luma(picture)) * region
    found = []
    for axis in (2, 3):
        pixels = region.sum(dim=5 - axis)[:, 0].to(detail)  # (N, side)
        signed, strength = (values.sum(dim=5 - axis)[:, 0] for values in (detail, detail.abs()))
        found += [_spread_over_phases(lines, strength, pixels, n) for lines in (signed, strength) for n in PERIODS]
    return torch.stack(found).amax(dim=0)


def rim(picture: Tensor, hole: Tensor, region: Tensor | None = None) -> Tensor:
    """Mean step between neighbors across the hole's edge, over the mean step in the photo beside it: (N,).

    1 where the edge cannot be told from its surroundings, more where it shows, less where the fill fades into it.
    """
    region = hole if region is None else region & hole
    beside = dilated(region, RING // 2) & ~hole
    found = []
    for horizontal in (True, False):
        (one, other), (one_counts, other_counts) = (_neighbors(m, horizontal=horizontal) for m in (hole, region))
        edges = (one & ~other & one_counts) | (other & ~one & other_counts)
        known = torch.logical_and(*_neighbors(beside, horizontal=horizontal))
        found.append((_steps(picture, horizontal=horizontal), edges, known))
    return _ratio(found)


def seams(picture: Tensor, labels: Tensor, hole: Tensor) -> Tensor:
    """Mean step across the edges between the pieces of a fill, over the mean step in the photo beside it: (N,).

    Args:
        picture: with its hole filled.
        labels: (N,K,H,W); two pixels are of one piece where all K values are equal.
        hole: what was filled.

    Returns:
        1 where there are no such edges.
    """
    found = []
    ring = dilated(hole, RING) & ~hole
    for horizontal in (True, False):
        a, b = _neighbors(labels, horizontal=horizontal)
        inside = torch.logical_and(*_neighbors(hole, horizontal=horizontal))
        known = torch.logical_and(*_neighbors(ring, horizontal=horizontal))
        edges = (a != b).any(dim=1, keepdim=True) & inside
        found.append((_steps(picture, horizontal=horizontal), edges, known))
    return _ratio(found)


def octaves(picture: Tensor, hole: Tensor, region: Tensor | None = None) -> Tensor:
    """Strength of each octave of a Laplacian pyramid in the fill, over that in the ring: (N, OCTAVES).

    The finest is first: it has sharpness and grain, the next has texture and small structure. 1 is as in the ring.
    """
    region = hole if region is None else region & hole
    ring = dilated(region, RING) & ~hole
    luma = _luma(picture)
    ratios = []
    for _ in range(OCTAVES):
        smaller = functional.avg_pool2d(gaussian_blur(luma, 5, 1.0, "replicate"), 2, ceil_mode=True)
        band = (luma - _enlarged(smaller, luma)).abs()
        # Pixels near the hole's edge are left out, since the band there mixes fill and photo.
        ratios.append(_mean(band, _inner(region, hole)) / _mean(band, _outer(ring, hole)).clamp(min=_LEAST))
        luma = smaller
        region, ring, hole = (
            functional.max_pool2d(mask.to(luma), 2, ceil_mode=True) > 0 for mask in (region, ring, hole)
        )
        ring &= ~hole
    return torch.stack(ratios, dim=1)


def agreement(halved: Tensor, coarse: Tensor, region: Tensor) -> Tensor:
    """Mean absolute difference between a halved fill and the coarser scale, inside `region`: (N,).

    Args:
        halved: the fill, halved to the coarser scale's size; (N,3,h,w).
        coarse: the coarser scale; (N,3,h,w).
        region: (N,1,h,w), bool.
    """
    _check(halved, region, region)
    return _mean((halved - coarse).abs().mean(dim=1, keepdim=True), region)


def dilated(mask: Tensor, pixels: int) -> Tensor:
    """A mask grown by so many pixels to each side, by a square."""
    grown = mask.float()
    for size in ((2 * pixels + 1, 1), (1, 2 * pixels + 1)):
        grown = functional.max_pool2d(grown, size, stride=1, padding=(size[0] // 2, size[1] // 2))
    return grown > 0


def _spread_over_phases(lines: Tensor, strength: Tensor, pixels: Tensor, period: int) -> Tensor:
    """Standard deviation over the phases of the lines' mean per pixel, over the mean strength per pixel: (N,)."""
    padding = -lines.shape[1] % period
    sums, counts = (
        functional.pad(values, (0, padding)).view(len(lines), -1, period).sum(dim=1) for values in (lines, pixels)
    )
    means = sums / counts.clamp(min=1)
    there = counts > 0
    mean = (means * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)
    variance = ((means - mean[:, None]).square() * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)
    spread: Tensor = variance.sqrt() / (strength.sum(dim=1) / pixels.sum(dim=1).clamp(min=1)).clamp(min=_LEAST)
    return spread


def _ratio(found: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Mean step over the pairs at edges, over the mean step of known pairs; 1 where there is no edge."""

    def mean(index: int) -> tuple[Tensor, Tensor]:
        total = torch.stack([(each[0] * each[index]).flatten(1).sum(dim=1) for each in found]).sum(dim=0)
        count = torch.stack([each[index].flatten(1).sum(dim=1) for each in found]).sum(dim=0)
        return total / count.clamp(min=1), count

    (at_edges, edges), (beside, known) = mean(1), mean(2)
    there = (edges > 0) & (known > 0)
    return torch.where(there, at_edges / beside.clamp(min=_LEAST), 1.0)


def _steps(picture: Tensor, *, horizontal: bool) -> Tensor:
    a, b = _neighbors(picture, horizontal=horizontal)
    return (a - b).abs().mean(dim=1, keepdim=True)


def _neighbors(x: Tensor, *, horizontal: bool) -> tuple[Tensor, Tensor]:
    return (x[..., :-1], x[..., 1:]) if horizontal else (x[..., :-1, :], x[..., 1:, :])


def _luma(picture: Tensor) -> Tensor:
    return (picture * picture.new_tensor(_WEIGHTS).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)


def _detail(luma: Tensor) -> Tensor:
    """Each pixel less the mean of its four neighbors."""
    padded = functional.pad(luma, (1, 1, 1, 1), mode="replicate")
    around = padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:] + padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1]
    return luma - around / 4


def _enlarged(smaller: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(smaller, size=like.shape[-2:], mode="bilinear", align_corners=False)


def _inner(region: Tensor, hole: Tensor) -> Tensor:
    """The part of a region that is away from the hole's edge; all of the region where there is no such part."""
    inner = region & ~dilated(~hole, 2)
    return torch.where(inner.flatten(1).any(dim=1)[:, None, None, None], inner, region)


def _outer(ring: Tensor, hole: Tensor) -> Tensor:
    outer = ring & ~dilated(hole, 2)
    return torch.where(outer.flatten(1).any(dim=1)[:, None, None, None], outer, ring)


def _mean(values: Tensor, where: Tensor) -> Tensor:
    return (values * where).flatten(1).sum(dim=1) / where.flatten(1).sum(dim=1).clamp(min=1)


def _check(picture: Tensor, hole: Tensor, region: Tensor) -> None:
    expected = (picture.shape[0], 1, *picture.shape[2:])
    if hole.shape != expected or region.shape != expected:
        raise InputError(f"measures: expected masks of shape {expected} to fit the picture, got {tuple(hole.shape)}.")
    if not region.flatten(1).any(dim=1).all():
        raise InputError("measures: nothing is marked; expected at least one pixel in each picture.")
