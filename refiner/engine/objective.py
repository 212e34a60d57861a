"""What a prediction is measured by: the photo outside the hole, the coarser scale's composite inside it.

Step 7 of the method (arXiv 2206.13644 and the authors' implementation).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from refiner.engine.pyramid import halve_hole_inward, halve_image
from refiner.errors import InputError


@dataclass(frozen=True)
class Target:
    """What there is to measure a prediction against, at one scale or in one window of it.

    Attributes:
        image: padded to the size that the network takes; (N,3,H,W).
        hole: bool, padded likewise; (N,1,H,W).
        coarse: the composite of the scale below; (N,3,h//2,w//2), where h, w is the size before padding.
        size: h, w; padding is on the right and at the bottom.
    """

    image: Tensor
    hole: Tensor
    coarse: Tensor
    size: tuple[int, int]

    @property
    def unpadded_hole(self) -> Tensor:
        """(N,1,h,w), bool."""
        height, width = self.size
        return self.hole[..., :height, :width]


Loss: TypeAlias = Callable[[Tensor], Tensor]
"""Prediction (N,3,H,W), padded, to the loss of each image in the batch, (N,); differentiable."""

ObjectiveFactory: TypeAlias = Callable[[Target], Loss]
"""Makes the loss of a window. It runs on PyTorch's `meta` device too, where memory is estimated."""


def paper_objective(target: Target, *, erosion: int = 15, coarse_weight: float = 1.0) -> Objective:
    """The paper's objective: the known pixels, and the coarser scale's composite inside the eroded hole.

    With other numbers, `refine` is given `functools.partial(paper_objective, erosion=31)`.

    Args:
        target: of one window.
        erosion: side in pixels, an odd number, of the ellipse that erodes the hole at half the scale's size; inside
            what is left the prediction is compared with the coarser scale. 1 does not erode.
        coarse_weight: factor on that term, against the known pixels; 0 leaves it out.

    Raises:
        InputError: the ellipse's side is not an odd number from 1, or the weight is below 0.
    """
    if erosion < 1 or erosion % 2 == 0:
        raise InputError(f"erosion: expected an odd whole number from 1, got {erosion}.")
    if coarse_weight < 0:
        raise InputError(f"coarse_weight: expected a number from 0, got {coarse_weight}.")
    return Objective(
        image=target.image,
        known=~target.hole,
        coarse=target.coarse,
        inside=erode(halve_hole_inward(target.unpadded_hole), erosion),
        size=target.size,
        coarse_weight=coarse_weight,
    )


@dataclass(frozen=True)
class Objective:
    """The loss of a prediction at one scale: two mean absolute errors, the second weighted, added.

    Attributes:
        image: the scale's image, padded; (N,3,H,W).
        known: true where its pixels are known, padding included; (N,1,H,W).
        coarse: the composite of the scale below; (N,3,h//2,w//2), where h, w is the size before padding.
        inside: true where the prediction, halved, is compared with it; (N,1,h//2,w//2).
        size: h, w.
        coarse_weight: factor on the second term.
    """

    image: Tensor
    known: Tensor
    coarse: Tensor
    inside: Tensor
    size: tuple[int, int]
    coarse_weight: float = 1.0

    def __call__(self, prediction: Tensor) -> Tensor:
        """Loss of each image in the batch, (N,).

        A term with no pixels to compare is left out; gradients are those of the terms that remain.
        """
        height, width = self.size
        halved = halve_image(prediction[..., :height, :width])
        known = _masked_l1(prediction, self.image, self.known)
        return known + self.coarse_weight * _masked_l1(halved, self.coarse, self.inside)


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
    """Mean absolute error of each image over the pixels marked, (N,); 0 where there are none."""
    count = a.shape[1] * where.sum(dim=(1, 2, 3))
    error = torch.where(where, (a - b).abs(), 0).sum(dim=(1, 2, 3))
    return error / count.clamp(min=1)
