"""What a prediction is measured by: the photo outside the hole, the previous scale inside it.

Step 7 of the method (arXiv 2206.13644 and the authors' implementation).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from refiner.engine.pyramid import halve_hole_inward, halve_image
from refiner.engine.soft_region import soft_region
from refiner.engine.texture import TextureTerm, texture_term, weighed

if TYPE_CHECKING:
    from refiner.settings import Settings


@dataclass(frozen=True)
class Target:
    """What there is to measure a prediction against, at one scale or in one window of it.

    Attributes:
        image: padded to the size that the network takes; (N,3,H,W).
        hole: bool, padded likewise; (N,1,H,W).
        guide: the previous scale's composite; (N,3,h//2,w//2), where h, w is the size before padding.
        size: h, w; padding is on the right and at the bottom.
    """

    image: Tensor
    hole: Tensor
    guide: Tensor
    size: tuple[int, int]

    @property
    def unpadded_hole(self) -> Tensor:
        """(N,1,h,w), bool."""
        height, width = self.size
        return self.hole[..., :height, :width]


Loss: TypeAlias = Callable[[Tensor], Tensor]
"""Prediction (N,3,H,W), padded, to the loss of each image in the batch, (N,); differentiable."""

ObjectiveFactory: TypeAlias = Callable[[Target, "Settings"], Loss]
"""Makes the loss of a window. It runs on PyTorch's `meta` device too, where memory is estimated."""


@runtime_checkable
class HasGuideTerm(Protocol):
    """A loss that can tell how far the guide is still off; `Settings.min_gain` goes by it."""

    def guide_term(self, prediction: Tensor) -> Tensor:
        """Of each image in the batch, (N,); 0 where there is nothing to follow."""
        ...


def paper_objective(target: Target, settings: Settings) -> Objective:
    """The paper's objective: the known pixels, and the guide inside the eroded hole, or softly up to its edge."""
    hole = target.unpadded_hole
    if settings.guide_region == "soft":
        guide_mask = soft_region(hole, settings.erosion // 2)
    else:
        guide_mask = erode(halve_hole_inward(hole), settings.erosion)
    texture = texture_term(target.image, target.hole, target.size, settings.seed) if settings.texture_weight else None
    return Objective(
        image=target.image,
        known=~target.hole,
        guide=target.guide,
        guide_mask=guide_mask,
        size=target.size,
        guide_weight=settings.guide_weight,
        texture=texture,
        texture_weight=settings.texture_weight,
    )


@dataclass(frozen=True)
class Objective:
    """The loss of a prediction at one scale: two mean absolute errors, the second weighted, added; texture if wanted.

    Attributes:
        image: the scale's image, padded; (N,3,H,W).
        known: true where its pixels are known, padding included; (N,1,H,W).
        guide: the previous scale's composite; (N,3,h//2,w//2), where h, w is the size before padding.
        guide_mask: true where the prediction is compared with the guide, or the weight from 0 that it has there;
            (N,1,h//2,w//2).
        size: h, w.
        guide_weight: factor on the second term, the distance from the guide.
        texture: how far the fill's texture is from that around it; None to leave that out.
        texture_weight: factor on it, and the length of its gradient in terms of the others'.
    """

    image: Tensor
    known: Tensor
    guide: Tensor
    guide_mask: Tensor
    size: tuple[int, int]
    guide_weight: float = 1.0
    texture: TextureTerm | None = None
    texture_weight: float = 0.0

    def __call__(self, prediction: Tensor) -> Tensor:
        """Loss of each image in the batch, (N,).

        A term with no pixels to compare is left out; gradients are those of the terms that remain.
        """
        if self.texture is None:
            return self._agreement(prediction)
        prediction, again = weighed(prediction, self.texture_weight)
        return self._agreement(prediction) + self.texture_weight * self.texture(again)

    def _agreement(self, prediction: Tensor) -> Tensor:
        return _masked_l1(prediction, self.image, self.known) + self.guide_term(prediction)

    def guide_term(self, prediction: Tensor) -> Tensor:
        """The second term, weighted; (N,)."""
        height, width = self.size
        halved = halve_image(prediction[..., :height, :width])
        return self.guide_weight * _masked_l1(halved, self.guide, self.guide_mask)


def erode(hole: Tensor, side: int) -> Tensor:
    """Erode a hole by OpenCV's ellipse of `side` x `side`, an odd number; beyond the image counts as hole.

    Counting the known pixels under the ellipse is exact in float32, and needs a convolution where a
    morphology library unfolds 225 copies of the image.
    """
    ellipse = ellipse_kernel(side).to(hole.device)
    known_under_ellipse = functional.conv2d((~hole).float(), ellipse[None, None], padding=side // 2)
    return known_under_ellipse < 0.5  # noqa: PLR2004  half a pixel: none


def ellipse_kernel(side: int) -> Tensor:
    """OpenCV's MORPH_ELLIPSE as (side, side), from its formula: a row's half-width is rounded to even."""
    r = side // 2
    rows = torch.arange(-r, r + 1)
    half_widths = torch.tensor([round(math.sqrt(r * r - int(dy) ** 2)) for dy in rows])
    return (rows.abs()[None, :] <= half_widths[:, None]).float()


def _masked_l1(a: Tensor, b: Tensor, where: Tensor) -> Tensor:
    """Mean absolute error of each image over the pixels marked, or by their weights, (N,); 0 where there are none."""
    if where.dtype == torch.bool:
        count = a.shape[1] * where.sum(dim=(1, 2, 3))
        error = torch.where(where, (a - b).abs(), 0).sum(dim=(1, 2, 3))
        return error / count.clamp(min=1)
    weights = where.to(a)
    total = a.shape[1] * weights.sum(dim=(1, 2, 3))
    return (weights * (a - b).abs()).sum(dim=(1, 2, 3)) / torch.where(total > 0, total, 1)
