"""Whether a fill's finest detail is made as that of the photo around it is: a term for an objective.

A halved guide says nothing of the finest octave. Small filters are run over it, and their values in the hole compared
in distribution with those on the ring of known pixels around it: the sliced Wasserstein distance of patches (Elnekave
and Weiss, "Generating Natural Images with Direct Patch Distributions Matching", ECCV 2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor
from torch.nn import functional

_SIDE = 7  # pixels of a patch
_BLUR = 2  # pixels that the band reaches to each side
_FILTERS = 16
_RING = 32  # pixels around the hole that the photo's patches come from
_SHARE, _MOST = 16, 32768  # patches compared: one in so many pixels of the window, at most so many
_TINY = 1e-12


@dataclass(frozen=True)
class TextureTerm:
    """Distance between the patches of a fill and those around it, (N,), for a prediction (N,3,H,W).

    Filters and places are drawn once: predictions of one window can be compared by it, and updates that have it can be
    recorded as CUDA graphs.

    Attributes:
        places: of the hole's patches, as indices of their first pixel; (N,K).
        wanted: what the filters give on the ring, sorted; (N,F,K).
        filters: (3*s*s,F), each of length 1.
        offsets: of a patch's pixels and channels from its first, (3*s*s,).
        there: whether an image has a hole and a ring to compare; (N,).
    """

    places: Tensor
    wanted: Tensor
    filters: Tensor
    offsets: Tensor
    there: Tensor

    def __call__(self, prediction: Tensor) -> Tensor:
        """Mean absolute difference of sorted values; 0 where there is nothing to compare."""
        found = _responses(prediction, self.places, self.offsets, self.filters)
        return torch.where(self.there, (found - self.wanted).abs().mean(dim=(1, 2)), 0)


def texture_term(image: Tensor, hole: Tensor, size: tuple[int, int], seed: int = 0) -> TextureTerm:
    """Make the term of a window; on the `meta` device too.

    Args:
        image: padded, (N,3,H,W).
        hole: padded, (N,1,H,W), bool.
        size: h, w, the size before padding.
        seed: of places and filters.
    """
    height, width = size
    hole = hole[..., :height, :width].float()
    rows, columns = max(height - _SIDE + 1, 1), max(width - _SIDE + 1, 1)
    reached = functional.max_pool2d(hole, 2 * _BLUR + 1, stride=1, padding=_BLUR)  # the band mixes hole and photo here
    touched = functional.max_pool2d(functional.pad(reached, (0, _SIDE - 1, 0, _SIDE - 1)), _SIDE, stride=1)
    near = functional.max_pool2d(hole, (2 * _RING + 1, 1), 1, (_RING, 0))
    near = functional.max_pool2d(near, (1, 2 * _RING + 1), 1, (0, _RING))
    middle = (slice(_SIDE // 2, _SIDE // 2 + rows), slice(_SIDE // 2, _SIDE // 2 + columns))
    inside, known = hole[..., middle[0], middle[1]] > 0, touched[..., :rows, :columns] == 0
    ring = known & (near[..., middle[0], middle[1]] > 0)
    count = min(max(height * width // _SHARE, 1), _MOST)
    noise = torch.Generator().manual_seed(seed)
    line = image.shape[-1]
    places, of_ring = (_drawn(mask, count, line, noise) for mask in (inside, ring))
    filters = torch.randn(3 * _SIDE * _SIDE, _FILTERS, generator=noise, dtype=torch.float32)
    filters = (filters / filters.norm(dim=0)).to(image)
    pixels = torch.arange(_SIDE)[:, None] * line + torch.arange(_SIDE)
    offsets = (torch.arange(3)[:, None, None] * image.shape[-2] * line + pixels).flatten()
    offsets = offsets.clamp(max=image[0].numel() - 1).to(image.device)  # a picture smaller than a patch has no place
    there = inside.flatten(1).any(dim=1) & ring.flatten(1).any(dim=1)
    with torch.no_grad():
        wanted = _responses(image, of_ring, offsets, filters)
    return TextureTerm(places, wanted, filters, offsets, there)


def _responses(picture: Tensor, places: Tensor, offsets: Tensor, filters: Tensor) -> Tensor:
    """What the filters give on patches of a picture's finest band, sorted; (N,F,K)."""
    band = picture - gaussian_blur2d(picture, (5, 5), (1.0, 1.0), border_type="reflect")
    index = places[..., None] + offsets  # (N,K,3*s*s)
    patches = band.flatten(1).gather(1, index.flatten(1)).view(index.shape)
    responses: Tensor = (patches @ filters).transpose(1, 2)
    return responses.sort(dim=2).values


def _drawn(mask: Tensor, count: int, line: int, noise: torch.Generator) -> Tensor:
    """Places where a mask (N,1,h,w) is true, evenly drawn, with repeats where it has too few; (N,count)."""
    if mask.device.type == "meta":
        return torch.empty(len(mask), count, dtype=torch.long, device=mask.device)
    drawn = []
    for each in mask[:, 0].cpu():
        y, x = each.nonzero(as_tuple=True)
        if len(y) == 0:
            y = x = torch.zeros(1, dtype=torch.long)  # stands in; the image's distance is not counted
        chosen = torch.randperm(len(y), generator=noise)
        chosen = chosen.repeat(-(-count // len(y)))[:count]
        drawn.append(y[chosen] * line + x[chosen])
    return torch.stack(drawn).to(mask.device)


class _Weighed(torch.autograd.Function):
    """See `weighed`."""

    @staticmethod
    def forward(ctx: Any, prediction: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        ctx.weight = weight
        return prediction.view_as(prediction), prediction.view_as(prediction)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        main, other = gradients
        lengths = [gradient.flatten(1).norm(dim=1) for gradient in gradients]
        factor = ctx.weight * lengths[0] / lengths[1].clamp(min=_TINY)
        return main + factor[:, None, None, None] * other, None


def weighed(prediction: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """A prediction for two losses: the second's gradient towards it is made `weight` times as long as the first's."""
    main, other = _Weighed.apply(prediction, weight)  # type: ignore[no-untyped-call]
    return main, other
