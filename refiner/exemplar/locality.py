"""Where in a photo like things lie: mostly in the same rows, or near by, or anywhere; learned from the photo itself.

Street, houses and sky lie above one another, so what is like a house is more often beside it than above it; chips lie
anywhere on a board. What is copied into a hole is best taken from where like things lie (compare He and Sun,
"Statistics of Patch Offsets for Image Completion", ECCV 2012).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from refiner.exemplar.nodes import picked

_LEAST_DISTANCE = 7.0  # pixels, root of the mean square: no photo tells more exactly where like things lie
_PAIRS = 80  # by chance, for each patch that was matched
_AT_ONCE = 1 << 22  # of patches that are compared with one another: bounds memory


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


class Matches(NamedTuple):
    """Some patches of a photo, and for each the one most like it.

    Attributes:
        of: rows and columns, (n,2).
        found: rows and columns of those most like them, (n,2).
        cost: how far they are from these, squared; (n,).
    """

    of: Tensor
    found: Tensor
    cost: Tensor


def matches(looks: Tensor, places: Tensor, count: int, apart: float, random: torch.Generator) -> Matches:
    """For some patches of a photo the one most like each that does not lie near by.

    Args:
        looks: what all of its patches are compared by, (m,C).
        places: their rows and columns, (m,2).
        count: how many to match.
        apart: pixels along rows or columns, from which on a patch does not lie near by.
        random: draws them.
    """
    squares = looks.square().sum(dim=1)
    which = torch.randperm(len(looks), generator=random)[:count]
    found, costs = [], []
    for some in torch.split(which, max(_AT_ONCE // max(len(looks), 1), 1)):
        distance = torch.addmm(squares[None], picked(looks, some), looks.T, alpha=-2)
        near = [(picked(axis, some)[:, None] - axis).abs_() < apart for axis in places.T.contiguous()]
        least, nearest = distance.masked_fill_(near[0].logical_and_(near[1]), torch.inf).min(dim=1)
        found.append(nearest)
        costs.append(least.add_(picked(squares, some)).clamp_(min=0))
    cost, nearest = torch.cat([torch.empty(0), *costs]), torch.cat([which[:0], *found])
    has = cost.isfinite()
    return Matches(picked(places, which)[has], picked(places, nearest)[has], cost[has])


def locality(like: Matches, places: Tensor, size: tuple[int, int], apart: float, random: torch.Generator) -> Locality:
    """How much nearer to one another the patches that were matched lie than any two.

    Args:
        like: the matches.
        places: rows and columns of all patches, (m,2).
        size: H, W of the picture.
        apart: pixels, as for `matches`.
        random: draws pairs of patches.
    """
    if not len(like.of):
        return Locality(0.0, 0.0)
    own = like.of.repeat(_PAIRS, 1)
    chance = picked(places, torch.randint(len(places), (len(own),), generator=random)) - own
    chance = chance[(chance.abs() >= apart).any(dim=1)]
    if not len(chance):
        return Locality(0.0, 0.0)
    matched, any_two = (away.float().square().mean(dim=0) for away in (like.found - like.of, chance))
    nearer = 1 / matched.clamp(min=_LEAST_DISTANCE**2) - 1 / any_two.clamp(min=1)
    down, right = (nearer.clamp(min=0) * torch.tensor(size).square()).tolist()
    return Locality(down, right)
