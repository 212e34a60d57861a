"""Which of two fills holds better, part by part of a hole, without the real picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.ndimage import find_objects, label
from torch import Tensor

from refiner.evaluation.no_reference import RING, looks

if TYPE_CHECKING:
    from collections.abc import Iterator

_MARGIN = 0.35  # by which a network's fill must look worse: only it knows what belongs where
_GRID = 0.15  # spread over phases that nature has too
_MOST = 8.0  # a ratio beyond it, or below its inverse, counts as this


@dataclass(frozen=True)
class Part:
    """A connected part of a hole.

    Attributes:
        mask: (1,1,h,w), bool, in its box.
        rows: of the box.
        columns: of the box.
    """

    mask: Tensor
    rows: slice
    columns: slice

    def around(self, picture: Tensor, margin: int) -> Tensor:
        """The box and a margin around it of (1,C,H,W)."""
        top, left = max(self.rows.start - margin, 0), max(self.columns.start - margin, 0)
        return picture[..., top : self.rows.stop + margin, left : self.columns.stop + margin]


def parts_of(hole: Tensor) -> Iterator[Part]:
    """Connected parts of a hole (1,1,H,W), bool."""
    numbered, _ = label(hole[0, 0].cpu().numpy(), structure=np.ones((3, 3), int))
    for number, (rows, columns) in enumerate(find_objects(numbered), start=1):
        mask = torch.from_numpy(numbered[rows, columns] == number)[None, None]
        yield Part(mask.to(hole.device), rows, columns)


def network_holds(network: Tensor, exemplar: Tensor, hole: Tensor) -> Tensor:
    """Where a network's fill is kept: where it looks no worse than the exemplar's beside the photo around it.

    Args:
        network: one picture with its hole filled; (1,3,H,W).
        exemplar: the same, filled another way.
        hole: (1,1,H,W), bool.

    Returns:
        Bool, (1,1,H,W): the parts of the hole in which the network's fill holds.
    """
    kept = torch.zeros_like(hole)
    for part in parts_of(hole):
        region = torch.zeros_like(hole)
        region[..., part.rows, part.columns] = part.mask
        boxes = [part.around(tensor, 2 * RING) for tensor in (network, exemplar, hole, region)]
        if faults(boxes[0], boxes[2], boxes[3]) <= faults(boxes[1], boxes[2], boxes[3]) + _MARGIN:
            kept |= region
    return kept


def faults(picture: Tensor, hole: Tensor, region: Tensor) -> float:
    """How much a fill differs from the photo around it: in each octave, at the rim, and by a grid; 0 for not at all."""
    seen = looks(picture.float(), hole, region)
    lost = seen.octaves.clamp(1 / _MOST, _MOST).log().abs().mean()
    edge = seen.rim.clamp(1, _MOST).log().mean()
    grid = (seen.grid - _GRID).clamp(min=0).mean()
    return float(lost + edge + grid)
