"""A hole filled with what its rim shows, carried inward along edges: how lines and borders go on under it.

Source: Bornemann and März, "Fast Image Inpainting Based on Coherence Transport", Journal of Mathematical Imaging and
Vision 2007; here in layers by distance from the rim, all pixels of one at once, and twice: edges that are hidden for
long are seen in a fill of half the size.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter
from torch.nn import functional

from refiner.exemplar.nodes import picked
from refiner.interruption import breathe

if TYPE_CHECKING:
    from torch import Tensor

_REACH = 4  # pixels that a color is carried over at once
_STRICTNESS = 25.0  # of going along edges, where there are any
_NO_EDGE = 2 / 255  # contrast of what is no edge
_STEP_AREA = 1.0  # sigma in pixels of what steps are measured on
# Sigma, over which edges go in one direction, in pixels of half the size; under what is wide noise must not bend them.
_EDGE_AREA, _EDGE_AREA_OF_WIDE = 2.5, 6.0
_LEAST = 1e-9
_AT_ONCE = 1 << 14  # pixels of the hole: bounds memory


def carried_inward(image: Tensor, hole: Tensor, *, wide: bool = False) -> Tensor:
    """A picture with its hole filled along edges.

    Args:
        image: (C,H,W); what lies in the hole does not matter.
        hole: (H,W), bool; not everything.
        wide: whether the hole is no stroke or wire, but hides a thing.

    Returns:
        (C,H,W), equal to the picture outside the hole.
    """
    image = torch.where(hole, 0, image)
    area = _EDGE_AREA_OF_WIDE if wide else _EDGE_AREA
    size = max(hole.shape[0] // 2, 1), max(hole.shape[1] // 2, 1)
    known = (~hole).to(image)
    total, share = (functional.adaptive_avg_pool2d(each[None], size)[0] for each in (image, known))
    small_hole = share < 0.5  # noqa: PLR2004
    small = torch.where(small_hole, 0, total / share.clamp(min=_LEAST))
    steps, sure = (functional.adaptive_avg_pool2d(each[None], size)[0] for each in _steps(image, known))
    if small_hole.any() and not small_hole.all():
        small = _carried(small, small_hole, _smooth(steps, sure, area))
        theirs, _ = _steps(small, torch.ones_like(share))
        steps, sure = steps + theirs * (1 - sure) / 4, torch.ones_like(sure)  # of pixels twice as far apart
    return _carried(image, hole, _smooth(steps, sure, area))


def _steps(image: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Squares and product of the steps along rows and columns, (3,H,W), and where they are known, (1,H,W).

    Args:
        image: (C,H,W), 0 where it is not known.
        known: 1 where it is; (H,W).
    """
    gray = _blurred(image.mean(dim=0), _STEP_AREA) / _blurred(known, _STEP_AREA).clamp(min=_LEAST)
    across, down, sure = torch.zeros_like(gray), torch.zeros_like(gray), torch.zeros_like(known)
    across[:, 1:-1] = (gray[:, 2:] - gray[:, :-2]) / 2
    down[1:-1] = (gray[2:] - gray[:-2]) / 2
    inner = known[1:-1, 1:-1]
    sure[1:-1, 1:-1] = inner * known[2:, 1:-1] * known[:-2, 1:-1] * known[1:-1, 2:] * known[1:-1, :-2]
    return torch.stack([across * across, across * down, down * down]) * sure, sure[None]


def _smooth(steps: Tensor, sure: Tensor, area: float) -> Tensor:
    """The structure tensor, (3,h,w): what is known of it near by."""
    share = _blurred(sure, area) + _LEAST
    return torch.stack([_blurred(each, area) for each in steps]) / share


def _carried(image: Tensor, hole: Tensor, edges: Tensor) -> Tensor:
    """A picture (C,H,W) whose hole is filled from the rim inward, by the edges (3,h,w) of any size."""
    (height, width), pad = hole.shape, _REACH
    depth = torch.from_numpy(distance_transform_edt(hole.numpy())).float()
    y, x = hole.nonzero().T
    layer = depth[y, x].ceil().long()
    order = layer.argsort(stable=True)
    y, x = y[order], x[order]
    row, column = y * edges.shape[1] // height, x * edges.shape[2] // width
    along_x, mixed, along_y = edges[:, row, column]
    angle = 0.5 * torch.atan2(2 * mixed, along_x - along_y)  # across the edge
    contrast = ((along_x - along_y) ** 2 + 4 * mixed**2).clamp(min=1e-20)
    strictness = 1 + _STRICTNESS * torch.exp(-(_NO_EDGE**4) / contrast)
    along = torch.stack([angle.cos(), angle.sin()], dim=1) * strictness[:, None]

    stride = width + 2 * pad
    line = torch.arange(-_REACH, _REACH + 1)
    around = torch.cartesian_prod(line, line)
    distance = around.square().sum(dim=1).float().sqrt()
    around, distance = (each[(distance > 0) & (distance <= _REACH)] for each in (around, distance))
    steps, axes = around @ torch.tensor([stride, 1]), around.float().T.flip(0) / (_REACH * 2**0.5)
    colors = functional.pad(image, (pad,) * 4).flatten(1).T.contiguous()
    done = functional.pad((~hole).float(), (pad,) * 4).flatten()
    at = (y + pad) * stride + x + pad
    begun, ready = 0, 0  # weights are there for pixels from one to the other, of several layers
    for begin, end in pairwise([0, *layer.bincount().cumsum(0).tolist()]):
        for first in range(begin, end, _AT_ONCE):
            last = min(first + _AT_ONCE, end)
            if last > ready:
                breathe()
                begun, ready = first, first + _AT_ONCE
                near = at[begun:ready, None] + steps
                falling = (along[begun:ready] @ axes).square_().neg_().exp_().add_(_LEAST).div_(distance)
            theirs = near[first - begun : last - begun]
            weights = falling[first - begun : last - begun] * picked(done, theirs)
            total = functional.embedding_bag(theirs, colors, mode="sum", per_sample_weights=weights)
            colors[at[first:last]] = total.div_(weights.sum(dim=1, keepdim=True))
        done[at[begin:end]] = 1
    filled = colors.T.reshape(-1, height + 2 * pad, stride)[:, pad:-pad, pad:-pad]
    return torch.where(hole, filled, image)


def _blurred(x: Tensor, sigma: float) -> Tensor:
    breathe()
    sigmas = (0,) * (x.ndim - 2) + (sigma, sigma)
    blurred: Any = gaussian_filter(x.numpy(), sigmas, mode="nearest", truncate=3)
    return torch.from_numpy(blurred)
