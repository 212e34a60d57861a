"""What a prediction is measured by: the photo outside the hole, the previous scale inside it.

Step 7 of the method (arXiv 2206.13644 and the authors' implementation).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from refiner.pyramid import halve_hole_inward, halve_image

_ELLIPSE_SIDE = 15


@dataclass(frozen=True)
class Objective:
    """The loss of a prediction at one scale.

    Attributes:
        image: the scale's picture, padded; (N,3,H,W).
        known: true where its pixels are known, padding included; (N,1,H,W).
        reference: the previous scale's composite; (N,3,h//2,w//2), where h, w is the size before padding.
        trusted: true where the reference is compared with: its hole, eroded; (N,1,h//2,w//2).
        size: h, w.
    """

    image: Tensor
    known: Tensor
    reference: Tensor
    trusted: Tensor
    size: tuple[int, int]

    @classmethod
    def at_scale(cls, image: Tensor, hole: Tensor, reference: Tensor, unpadded_hole: Tensor) -> Objective:
        """Build the objective from padded image and hole, the previous composite, and the hole unpadded."""
        return cls(
            image=image,
            known=~hole,
            reference=reference,
            trusted=erode(halve_hole_inward(unpadded_hole)),
            size=(unpadded_hole.shape[-2], unpadded_hole.shape[-1]),
        )

    def __call__(self, prediction: Tensor) -> Tensor:
        """Loss of each picture in the batch, (N,): its two mean absolute errors, added.

        A term with no pixels to compare is left out; gradients are those of the terms that remain.
        """
        height, width = self.size
        halved = halve_image(prediction[..., :height, :width])
        return _masked_l1(prediction, self.image, self.known) + _masked_l1(halved, self.reference, self.trusted)


def erode(hole: Tensor) -> Tensor:
    """Erode a hole by OpenCV's 15 x 15 ellipse; beyond the picture counts as hole.

    Counting the known pixels under the ellipse is exact in float32, and needs a convolution where a
    morphology library unfolds 225 copies of the picture.
    """
    ellipse = _ellipse(_ELLIPSE_SIDE).to(hole.device)
    known_under_ellipse = functional.conv2d((~hole).float(), ellipse[None, None], padding=_ELLIPSE_SIDE // 2)
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
