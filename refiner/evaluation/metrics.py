"""How far a filled picture is from the real one, in the hole; no pretrained network is needed.

Pictures are (N,3,H,W), floating point in [0,1]; holes (N,1,H,W), bool, at least one pixel each. Every metric gives
one value for each picture of the batch.
"""

from __future__ import annotations

import torch
from kornia.metrics import ssim as ssim_map
from torch import Tensor
from torch.nn import functional

from refiner.blur import gaussian_blur
from refiner.errors import InputError

TEXTURE_LEVELS = 3
_PATCH = 7
_CHUNK = 16  # directions projected on at once: bounds memory on large holes
_SSIM_WINDOW = 11


def hole_l1(prediction: Tensor, target: Tensor, hole: Tensor) -> Tensor:
    """Mean absolute error over the hole's pixels and channels: (N,)."""
    _check(prediction, target, hole)
    return _mean_in_hole((prediction - target).abs(), hole)


def hole_psnr(prediction: Tensor, target: Tensor, hole: Tensor) -> Tensor:
    """Peak signal-to-noise ratio over the hole, in dB: (N,); infinite where the pictures are equal."""
    _check(prediction, target, hole)
    return -10 * torch.log10(_mean_in_hole((prediction - target).square(), hole))


def hole_ssim(prediction: Tensor, target: Tensor, hole: Tensor) -> Tensor:
    """Structural similarity (11x11 Gaussian window) averaged over the hole: (N,), 1 where the pictures are equal.

    Source: "Image quality assessment: from error visibility to structural similarity", IEEE TIP 2004.
    """
    _check(prediction, target, hole)
    return _mean_in_hole(ssim_map(prediction, target, _SSIM_WINDOW), hole)


def texture_distance(
    prediction: Tensor,
    target: Tensor,
    hole: Tensor,
    *,
    levels: int = TEXTURE_LEVELS,
    directions: int = 64,
    seed: int = 0,
) -> Tensor:
    """Sliced Wasserstein distance between the patches of two pictures, at each level of a Laplacian pyramid.

    It compares what textures are there, not where: 7x7 patches centered in the hole are projected on random
    directions, and the sorted projections are compared. A blurred fill is far at the fine levels, a wrong color
    at the coarsest.

    Args:
        prediction: the filled pictures.
        target: the real ones.
        hole: where patches are centered.
        levels: of the pyramid; the last holds all that is coarser, colors included.
        directions: random unit vectors that patches are projected on.
        seed: of these directions.

    Returns:
        (N, levels), the finest first, in units of the picture's range.

    Raises:
        InputError: shapes do not fit each other.

    Source: "Progressive Growing of GANs", arXiv 1710.10196, section 5, which normalizes patches; here they are left
    as they are, so that a loss of contrast counts.
    """
    _check(prediction, target, hole)
    random = torch.randn(directions, 3 * _PATCH**2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    kernels = functional.normalize(random, dim=1).view(directions, 3, _PATCH, _PATCH).to(prediction)
    rows = []
    for index in range(prediction.shape[0]):
        pair = torch.cat([prediction[index : index + 1], target[index : index + 1]])
        where = hole[index : index + 1]
        values = []
        for level in range(levels):
            last = level == levels - 1
            band, smaller = (pair, pair) if last else _laplacian(pair)
            values.append(_sliced_wasserstein(band, where[0, 0], kernels))
            if not last:
                pair = smaller
                where = functional.interpolate(where.float(), size=pair.shape[-2:], mode="area") > 0
        rows.append(torch.stack(values))
    return torch.stack(rows)


def _laplacian(picture: Tensor) -> tuple[Tensor, Tensor]:
    """The detail that halving a picture loses, and the halved picture."""
    h, w = picture.shape[-2:]
    blurred = gaussian_blur(picture, 5, 1.0, "reflect")
    smaller = functional.interpolate(blurred, size=((h + 1) // 2, (w + 1) // 2), mode="bilinear", align_corners=False)
    larger = functional.interpolate(smaller, size=(h, w), mode="bilinear", align_corners=False)
    return picture - larger, smaller


def _sliced_wasserstein(pair: Tensor, hole: Tensor, kernels: Tensor) -> Tensor:
    """Mean distance between the sorted projections of two pictures' patches."""
    rows, columns = hole.any(dim=1).nonzero().flatten(), hole.any(dim=0).nonzero().flatten()
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    margin = _PATCH // 2
    padded = functional.pad(pair, (margin,) * 4, mode="replicate")
    padded = padded[..., top : bottom + 2 * margin, left : right + 2 * margin]
    inside = hole[top:bottom, left:right]
    distances = []
    for chunk in torch.split(kernels, _CHUNK):
        projected = functional.conv2d(padded, chunk)[:, :, inside].sort(dim=-1).values  # (2, chunk, pixels)
        distances.append((projected[0] - projected[1]).abs().mean(dim=-1))
    return torch.cat(distances).mean()


def _mean_in_hole(values: Tensor, hole: Tensor) -> Tensor:
    return (values * hole).flatten(1).sum(dim=1) / (hole.flatten(1).sum(dim=1) * values.shape[1])


def _check(prediction: Tensor, target: Tensor, hole: Tensor) -> None:
    n, _, h, w = prediction.shape
    if target.shape != prediction.shape or hole.shape != (n, 1, h, w):
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in (prediction, target, hole))
        raise InputError(f"metrics: expected pictures of one shape (N,3,H,W) and holes (N,1,H,W), got {shapes}.")
    if not hole.flatten(1).any(dim=1).all():
        raise InputError("metrics: a hole is empty; expected at least one pixel in each.")
