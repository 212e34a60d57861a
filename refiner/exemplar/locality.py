"""Where in a photo like things lie: mostly in the same rows, or near by, or anywhere; learned from the photo itself.

Street, houses and sky lie above one another, so what is like a house is more often beside it than above it; chips lie
anywhere on a board. What is copied into a hole is best taken from where like things lie (compare He and Sun,
"Statistics of Patch Offsets for Image Completion", ECCV 2012).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from refiner.exemplar.matching import Pairs

_LEAST_DISTANCE = 7.0  # pixels, root of the mean square: no photo tells more exactly where like things lie
_DRAWN = 80  # by chance, for each pair of like patches


class Locality(NamedTuple):
    """How much nearer to one another like patches of a photo lie than any two do, along rows and along columns.

    Attributes:
        down: 1 over the mean square of how many rows like patches lie apart, as a share of the picture's height, less
            that of any two; 0 where like patches lie no nearer.
        right: the same of columns, as a share of its width.
    """

    down: float
    right: float

    def scales(self, size: tuple[int, int], costs: Tensor) -> tuple[float, float]:
        """What rows and columns are multiplied by, to be compared like what else patches are compared by.

        Args:
            size: H, W of the picture.
            costs: squared distances of like patches, (n,). That they lie as far apart as like ones do costs as much.
        """
        cost = float(costs.median()) if len(costs) else 0.0
        return (cost * self.down) ** 0.5 / size[0], (cost * self.right) ** 0.5 / size[1]


def locality(pairs: Pairs, places: Tensor, size: tuple[int, int], apart: int, random: torch.Generator) -> Locality:
    """How much nearer to one another like patches lie than any two.

    Args:
        pairs: like patches.
        places: rows and columns of all patches, (m,2).
        size: H, W of the picture.
        apart: pixels along rows or columns that like patches were asked to lie apart.
        random: draws pairs of patches.
    """
    if not len(pairs.asked):
        return Locality(0.0, 0.0)
    own = places[pairs.asked]
    drawn = torch.randint(len(places), (len(own) * _DRAWN,), generator=random)
    chance = places[drawn] - own.repeat(_DRAWN, 1)
    chance = chance[(chance.abs() >= apart).any(dim=1)]
    if not len(chance):
        return Locality(0.0, 0.0)
    alike, any_two = (away.float().square().mean(dim=0) for away in (places[pairs.found] - own, chance))
    nearer = 1 / alike.clamp(min=_LEAST_DISTANCE**2) - 1 / any_two.clamp(min=1)
    down, right = (nearer.clamp(min=0) * torch.tensor(size).square()).tolist()
    return Locality(down, right)
