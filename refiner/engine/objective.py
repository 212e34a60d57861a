"""What a prediction is measured by: the photo outside the hole, the previous scale inside it.

Step 7 of the method (arXiv 2206.13644 and the authors' implementation).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from refiner.engine.pyramid import halve_hole_inward, halve_image


@dataclass(frozen=True)
class Objective:
    """The loss of a prediction at one scale.

    Attributes:
        image: the scale's picture, padded; (N,3,H,W).
        known: true where its pixels are known, padding included; (N,1,H,W).
        reference: the previous scale's composite; (N,3,h//2,w//2), where h, w is the size before padding.
        trusted: true where the reference is compared with: its hole, eroded; (N,1,h//2,w//2).
        size: h, w.
        guide_weight: factor on the second term, the distance from the reference.
    """

    image: Tensor
    known: Tensor
    reference: Tensor
    trusted: Tensor
    size: tuple[int, int]
    guide_weight: float = 1.0

    @classmethod
    def at_scale(
        cls,
        image: Tensor,
        hole: Tensor,
        reference: Tensor,
        unpadded_hole: Tensor,
        *,
        erosion: int,
        guide_weight: float = 1.0,
    ) -> Objective:
        """Build the objective from padded image and hole, the previous composite, and the hole unpadded.

        `erosion` is the side of the ellipse that erodes it, see `erode`.
        """
        return cls(
            image=image,
            known=~hole,
            reference=reference,
            trusted=erode(halve_hole_inward(unpadded_hole), erosion),
            size=(unpadded_hole.shape[-2], unpadded_hole.shape[-1]),
            guide_weight=guide_weight,
        )

    def __call__(self, prediction: Tensor) -> Tensor:
        """Loss of each picture in the batch, (N,): its two mean absolute errors, the second weighted, added.

        A term with no pixels to compare is left out; gradients are those of the terms that remain.
        """
        height, width = self.size
        halved = halve_image(prediction[..., :height, :width])
        guided = _masked_l1(halved, self.reference, self.trusted)
        return _masked_l1(prediction, self.image, self.known) + self.guide_weight * guided


def erode(hole: Tensor, side: int) -> Tensor:
    """Erode a hole by OpenCV's ellipse of `side` x `side`, an odd number; beyond the picture counts as hole.

    Counting the known pixels under the ellipse is exact in float32, and needs a convolution where a
    morphology library unfolds 225 copies of the picture.
    """
    ellipse = _ellipse(side).to(hole.device)
    known_under_ellipse = functional.conv2d((~hole).float(), ellipse[None, None], padding=side // 2)
    return known_under_ellipse < 0.5  # noqa: PLR2004  half a pixel: none


def _ellipse(side: int) -> Tensor:
    """OpenCV's MORPH_ELLIPSE as (side, side), from its formula: a row's half-width is rounded to even."""
    r = side // 2
    rows = torch.arange(-r, r + 1)
    half_widths = torch.tensor([round(math.sqrt(r * r - int(dy) ** 2)) for dy in rows])
    return (rows.abs()[None, :] <= half_widths[:, None]).float()


def _masked_l1(a: Tensor, b: Tensor, where: Tensor) -> Tensor:
    """Mean absolute error of each picture over the pixels marked, (N,); 0 where there are none."""
    count = a.shape[1] * where.sum(dim=(1, 2, 3))
    error = torch.where(where, (a - b).abs(), 0).sum(dim=(1, 2, 3))
    return error / count.clamp(min=1)
