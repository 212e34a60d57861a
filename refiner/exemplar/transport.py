"""A thin hole filled with what its rim shows, carried inward along edges: how lines and borders go on under it.

Source: Bornemann and März, "Fast Image Inpainting Based on Coherence Transport", Journal of Mathematical Imaging and
Vision 2007; here in layers by distance from the rim, all pixels of one at once, and twice: edges that strokes hide for
long are seen in a fill of half the size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter
from torch.nn import functional

from refiner.exemplar.nodes import picked
from refiner.interruption import breathe

if TYPE_CHECKING:
    from torch import Tensor

_REACH = 5  # pixels that a color is carried over at once
_STRICTNESS = 25.0  # of going along edges, where there are any
_NO_EDGE = 2 / 255  # contrast of what is no edge
_STEP_AREA = 1.0  # sigma in pixels of what steps are measured on
_EDGE_AREA = 2.5  # sigma, over which edges go in one direction, in pixels of half the size
_LEAST = 1e-9
_AT_ONCE = 1 << 14  # pixels of the hole: bounds memory


def carried_inward(image: Tensor, hole: Tensor) -> Tensor:
    """A picture with its hole filled along edges.

    Args:
        image: (C,H,W).
        hole: (H,W), bool; not everything.

    Returns:
        (C,H,W), equal to the picture outside the hole.
    """
    size = max(hole.shape[0] // 2, 1), max(hole.shape[1] // 2, 1)
    known = (~hole).to(image)
    total, share = (functional.adaptive_avg_pool2d(each[None], size)[0] for each in (image * known, known))
    small_hole = share < 0.5  # noqa: PLR2004
    small = torch.where(small_hole, 0, total / share.clamp(min=_LEAST))
    steps, sure = (functional.adaptive_avg_pool2d(each[None], size)[0] for each in _steps(image, known))
    if small_hole.any() and not small_hole.all():
        small = _carried(small, small_hole, _smooth(steps, sure))
        theirs, _ = _steps(small, torch.ones_like(share))
        steps, sure = steps + theirs * (1 - sure) / 4, torch.ones_like(sure)  # of pixels twice as far apart
    return _carried(image, hole, _smooth(steps, sure))


def _steps(image: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Squares and product of the steps along rows and columns, (3,H,W), and where they are known, (1,H,W)."""
    gray = _blurred(image.mean(dim=0) * known, _STEP_AREA) / _blurred(known, _STEP_AREA).clamp(min=_LEAST)
    across, down, sure = torch.zeros_like(gray), torch.zeros_like(gray), torch.zeros_like(known)
    across[:, 1:-1] = (gray[:, 2:] - gray[:, :-2]) / 2
    down[1:-1] = (gray[2:] - gray[:-2]) / 2
    inner = known[1:-1, 1:-1]
    sure[1:-1, 1:-1] = inner * known[2:, 1:-1] * known[:-2, 1:-1] * known[1:-1, 2:] * known[1:-1, :-2]
    return torch.stack([across * across, across * down, down * down]) * sure, sure[None]


def _smooth(steps: Tensor, sure: Tensor) -> Tensor:
    """The structure tensor, (3,h,w): what is known of it near by."""
    share = _blurred(sure, _EDGE_AREA) + _LEAST
    return torch.stack([_blurred(each, _EDGE_AREA) for each in steps]) / share


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

    stride = width + 2 * pad
    line = torch.arange(-_REACH, _REACH + 1)
    around = torch.cartesian_prod(line, line)
    distance = around.square().sum(dim=1).float().sqrt()
    around, distance = (each[(distance > 0) & (distance <= _REACH)] for each in (around, distance))
    steps, (down, right) = around @ torch.tensor([stride, 1]), around.float().T
    colors = functional.pad(image, (pad,) * 4).flatten(1).T.contiguous()
    done = functional.pad((~hole).float(), (pad,) * 4).flatten()
    at = (y + pad) * stride + x + pad
    for of_layer in torch.split(torch.arange(len(at)), layer.bincount().tolist()[1:] or [0]):
        for some in torch.split(of_layer, _AT_ONCE):
            breathe()
            near = at[some, None] + steps
            off = (angle[some, None].cos() * right + angle[some, None].sin() * down) * strictness[some, None]
            weights = off.square_().mul_(-0.5 / _REACH**2).exp_().add_(_LEAST).div_(distance).mul_(picked(done, near))
            weights /= weights.sum(dim=1, keepdim=True)
            colors[at[some]] = functional.embedding_bag(near, colors, mode="sum", per_sample_weights=weights)
        done[at[of_layer]] = 1
    filled = colors.T.reshape(-1, height + 2 * pad, stride)[:, pad:-pad, pad:-pad]
    return torch.where(hole, filled, image)


def _blurred(x: Tensor, sigma: float) -> Tensor:
    breathe()
    sigmas = (0,) * (x.ndim - 2) + (sigma, sigma)
    blurred: Any = gaussian_filter(x.numpy(), sigmas, mode="nearest", truncate=3)
    return torch.from_numpy(blurred)
