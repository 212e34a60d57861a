"""The losses of LaMa (arXiv 2109.07161, section 2.3), each a function of tensors.

Pictures are (N,3,H,W) in [0,1]; holes (N,1,H,W), 1 inside; logits (N,1,h,w) of a discriminator's patches, high where
it takes them for real.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence


def masked_l1(prediction: Tensor, target: Tensor, where: Tensor) -> Tensor:
    """Absolute error at the pixels marked 1, averaged over all pixels, as LaMa weighs it."""
    return ((prediction - target).abs() * where).mean()


def generator_adversarial(fake_logits: Tensor) -> Tensor:
    """Non-saturating: low where the discriminator takes the patches for real. -log sigmoid(logit)."""
    return functional.softplus(-fake_logits).mean()


def discriminator_adversarial(real_logits: Tensor, fake_logits: Tensor, hole: Tensor) -> Tensor:
    """Low where photos are taken for real and fills for fake.

    A patch of a filled picture counts as fake by its share of hole and as real by the rest, which shows the photo
    ("masks as fake targets").
    """
    share = functional.interpolate(hole, size=fake_logits.shape[-2:], mode="bilinear", align_corners=False)
    fake = share * functional.softplus(fake_logits) + (1 - share) * functional.softplus(-fake_logits)
    return functional.softplus(-real_logits).mean() + fake.mean()


def gradient_penalty(real_logits: Tensor, real: Tensor) -> Tensor:
    """R1: squared norm of the gradient of the logits towards the photos, averaged over the batch.

    Source: "Which Training Methods for GANs do actually Converge?", arXiv 1801.04406.
    """
    (gradient,) = torch.autograd.grad(real_logits.sum(), real, create_graph=True)
    return gradient.flatten(1).square().sum(dim=1).mean()


def feature_distance(fake: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Mean squared error of features, averaged over layers: feature matching."""
    return torch.stack([functional.mse_loss(f.float(), r.float()) for f, r in zip(fake, real, strict=True)]).mean()


def perceptual_distance(fake: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Mean squared error of features, summed over layers: the high-receptive-field perceptual loss."""
    return torch.stack([functional.mse_loss(f.float(), r.float()) for f, r in zip(fake, real, strict=True)]).sum()
