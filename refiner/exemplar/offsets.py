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
    image, source = palette.spread(palette.image), palette.spread(palette.source)
    none = torch.zeros(0, 2, dtype=torch.long)
    if min(hole.shape) < _PATCH:
        return none
    at = (functional.max_pool2d((~source)[None, None].float(), _PATCH, stride=1)[0, 0] == 0).nonzero()
    if len(at) < 2 * _DIMENSIONS:
        return none
    random = torch.Generator().manual_seed(seed)
    patches = _components(image, at, random)
    middle = at + _PATCH // 2
    real = torch.stack([middle[:, 0], palette.photo_columns(middle[:, 1])], dim=1)
    mirrored = palette.mirrored(middle[:, 1])
    asked = _near_hole(at, hole, (~mirrored).nonzero()[:, 0])
    asked = asked[torch.randperm(len(asked), generator=random)[:_QUERIES]]
    too_near = _disc(min(max(hole.shape), _LONGEST * math.sqrt(hole.numel())) / _NEAREST)
    found = []
    for start, candidates, count, both_ways in ((0, ~mirrored, _MOST, True), (0.5, mirrored, _MOST_MIRRORED, False)):
        among = candidates.nonzero()[:, 0]
        if count and len(among):
            pairs = most_alike(patches, real, asked, among, too_near, part(on_step, start, start + 0.5))
            if len(pairs.asked):
                found.append(_peaks(at[pairs.found] - at[pairs.asked], count, both_ways=both_ways))
    return torch.cat(found) if found else none


def _components(image: Tensor, at: Tensor, random: torch.Generator) -> Tensor:
    """The patches of a picture (3,h,w) from pixels (n,2) on, in their principal components; (n,24)."""
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
