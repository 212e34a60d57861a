"""At which offsets a photo repeats itself.

Source: He and Sun, "Statistics of Patch Offsets for Image Completion", ECCV 2012.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from refiner.exemplar.matching import most_alike
from refiner.exemplar.progress import part

if TYPE_CHECKING:
    from refiner.exemplar.palette import Palette
    from refiner.exemplar.progress import OnStep

_MOST = 60  # offsets within the photo
_MOST_MIRRORED = 30  # and into its mirror image
_PATCH = 8  # pixels
_DIMENSIONS = 24  # of a patch's principal components that are compared
_SAMPLE = 4000  # patches that the components are found from
_QUERIES = 1500  # patches that look for another like them
_NEAREST = 15  # the photo's longer side over this is the shortest offset; nearer, a smooth picture is like itself
_LONGEST = 4 / 3  # times the side of a square of the photo's area: what a longer side counts for
_COMPARED = 100_000  # pixels of a photo whose patches are all compared; of a larger one, those of half its size are
_MOVED = 2  # pixels that a pair found at half the size may be off by
_PEAK = 9  # pixels between peaks of the histogram
_SIGMA = 2**0.5  # of its smoothing, in pixels


def dominant_offsets(palette: Palette, hole: Tensor, seed: int, on_step: OnStep) -> Tensor:
    """The offsets at which known patches around the hole most often find the one most like them.

    Args:
        palette: what may be copied.
        hole: (H,W), bool.
        seed: of the patches that are asked.
        on_step: see `OnStep`.

    Returns:
        (K,2), rows and columns, the most frequent first, those into the mirror image last; K may be 0 in a picture with
        hardly any known patch.
    """
    random = torch.Generator().manual_seed(seed)
    halved = hole.numel() > _COMPARED
    pairs = _pairs(palette.halved() if halved else palette, random, on_step)
    if halved:
        pairs = _larger(pairs, palette, random)
    found = [
        _peaks(there - here, count, both_ways=both_ways)
        for (here, there), (count, both_ways) in zip(pairs, ((_MOST, True), (_MOST_MIRRORED, False)), strict=True)
        if len(here)
    ]
    return torch.cat(found) if found else torch.zeros(0, 2, dtype=torch.long)


def _pairs(palette: Palette, random: torch.Generator, on_step: OnStep) -> list[tuple[Tensor, Tensor]]:
    """Where patches begin, and those most like them, in the photo and in its mirror image; (k,2) and (k,2) each."""
    hole = ~palette.known
    none = torch.zeros(0, 2, dtype=torch.long)
    at = _places(palette) if min(hole.shape) >= _PATCH else none
    if len(at) < 2 * _DIMENSIONS:
        return [(none, none)] * 2
    patches = _components(palette, at, random)
    middle = at + _PATCH // 2
    real = torch.stack([middle[:, 0], palette.photo_columns(middle[:, 1])], dim=1)
    mirrored = palette.mirrored(middle[:, 1])
    asked = _near_hole(at, hole, (~mirrored).nonzero()[:, 0])
    asked = asked[torch.randperm(len(asked), generator=random)[:_QUERIES]]
    too_near = _disc(min(max(hole.shape), _LONGEST * math.sqrt(hole.numel())) / _NEAREST)
    found = []
    for start, candidates in ((0, ~mirrored), (0.5, mirrored)):
        among = candidates.nonzero()[:, 0]
        if len(among):
            pairs = most_alike(patches, real, asked, among, too_near, part(on_step, start, start + 0.5))
            found.append((at[pairs.asked], at[pairs.found]))
        else:
            found.append((none, none))
    return found


def _places(palette: Palette) -> Tensor:
    """Where patches begin that may be copied, (n,2)."""
    clear = functional.max_pool2d((~palette.spread(palette.source))[None, None].float(), _PATCH, stride=1)[0, 0] == 0
    return clear.nonzero()


def _larger(
    pairs: list[tuple[Tensor, Tensor]], palette: Palette, random: torch.Generator
) -> list[tuple[Tensor, Tensor]]:
    """The same pairs in a picture of twice the size, where one of each moves by as little as makes them most alike."""
    if not any(len(here) for here, _ in pairs):
        return pairs
    at, stride = _places(palette), palette.width
    number = torch.full((palette.known.shape[0] * stride,), -1)
    number[at @ torch.tensor([stride, 1])] = torch.arange(len(at))
    patches = _components(palette, at, random)
    line = torch.arange(-_MOVED, _MOVED + 1)
    steps = torch.cartesian_prod(line, line)
    found = []
    for here, there in pairs:
        # The middles of the patches, which show half as much here.
        here, there = (2 * each + _PATCH // 2 for each in (here, there))  # noqa: PLW2901
        tried = there[:, None] + steps
        inside = ((tried >= 0) & (tried < torch.tensor([palette.known.shape[0], stride]))).all(dim=2)
        own = number[here @ torch.tensor([stride, 1])]
        other = number[(tried * inside[..., None]) @ torch.tensor([stride, 1])]
        apart = (patches[other] - patches[own][:, None]).square().sum(dim=2)
        least, best = torch.where(inside & (other >= 0), apart, torch.inf).min(dim=1)
        has = (own >= 0) & (least < torch.inf)
        found.append((here[has], tried[torch.arange(len(tried)), best][has]))
    return found


def _components(palette: Palette, at: Tensor, random: torch.Generator) -> Tensor:
    """The patches of a picture (3,h,w) from pixels (n,2) on, in their principal components; (n,24)."""
    image = palette.spread(palette.image)
    y, x = at[torch.randperm(len(at), generator=random)[:_SAMPLE]].T
    sample = image.unfold(1, _PATCH, 1).unfold(2, _PATCH, 1)[:, y, x].movedim(1, 0).flatten(1)
    sample = sample - sample.mean(dim=0)
    components = torch.linalg.eigh(sample.T @ sample).eigenvectors[:, -_DIMENSIONS:]
    # As a convolution: the patches themselves would be 192 numbers a pixel.
    projected = functional.conv2d(image[None], components.T.reshape(-1, 3, _PATCH, _PATCH))[0]
    return projected[:, at[:, 0], at[:, 1]].T.contiguous()


def _near_hole(at: Tensor, hole: Tensor, among: Tensor) -> Tensor:
    """Which patches lie no farther from the hole's box than its longer side; all where none does."""
    y, x = hole.nonzero().T
    reach = max(int(y.max() - y.min()), int(x.max() - x.min()))
    low = torch.stack([y.min(), x.min()]) - reach
    high = torch.stack([y.max(), x.max()]) + reach
    near = among[((at[among] > low) & (at[among] < high)).all(dim=1)]
    return near if len(near) else among


def _disc(radius: float) -> Tensor:
    """Offsets shorter than a radius; (K,2)."""
    line = torch.arange(-math.ceil(radius), math.ceil(radius) + 1)
    square = torch.cartesian_prod(line, line)
    return square[square.square().sum(dim=1) < radius**2]


def _peaks(offsets: Tensor, count: int, *, both_ways: bool) -> Tensor:
    """The highest peaks of the offsets' smoothed histogram; an offset counts as its opposite too where that says so."""
    if both_ways:
        offsets = torch.cat([offsets, -offsets])
    # The histogram of what there is: of a wide palette's offsets most have no vote.
    low = offsets.amin(dim=0) - _PEAK
    height, width = (offsets.amax(dim=0) + _PEAK + 1 - low).tolist()
    votes = torch.zeros(height, width, dtype=torch.float32)
    votes.index_put_(tuple((offsets - low).T), torch.ones(len(offsets), dtype=torch.float32), accumulate=True)
    line = torch.exp(-(torch.arange(-(_PEAK // 2), _PEAK // 2 + 1).float() ** 2) / (2 * _SIGMA**2))
    kernel, half = (line[:, None] * line)[None, None] / line.sum() ** 2, _PEAK // 2
    smooth = functional.conv2d(votes[None, None], kernel, padding=half)
    highest = functional.max_pool2d(smooth, (_PEAK, 1), stride=1, padding=(half, 0))
    highest = functional.max_pool2d(highest, (1, _PEAK), stride=1, padding=(0, half))
    peaks = (smooth * (highest == smooth))[0, 0].flatten()
    top = peaks.topk(min(count, int((peaks > 0).sum()))).indices
    return torch.stack([top // width, top % width], dim=1) + low
