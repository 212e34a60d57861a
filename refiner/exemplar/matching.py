"""Which known patches of a photo look alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from refiner.exemplar.progress import OnStep

_AT_ONCE = 1 << 21  # pairs of patches that are compared at once: bounds memory


class Pairs(NamedTuple):
    """Patches that were asked, and of each the one most like it.

    Attributes:
        asked: indices; (k,).
        found: indices; (k,).
        cost: the squared distance between the two; (k,).
    """

    asked: Tensor
    found: Tensor
    cost: Tensor


def most_alike(patches: Tensor, at: Tensor, asked: Tensor, among: Tensor, too_near: Tensor, on_step: OnStep) -> Pairs:
    """Of each patch asked, the one among others most like it that is not too near; those left out that have none.

    Args:
        patches: what they are compared by; (n,C).
        at: rows and columns of where they lie in the photo; (n,2).
        asked: indices of patches, at least one.
        among: indices of those to choose from, at least one.
        too_near: offsets from a patch asked at which none is chosen; (K,2).
        on_step: see `OnStep`.
    """
    others = patches[among]
    squares = others.square().sum(dim=1)
    numbers = torch.full((int(at[:, 0].max()) + 1, int(at[:, 1].max()) + 1), -1)  # of those to choose from
    numbers[at[among, 0], at[among, 1]] = torch.arange(len(among))
    here: list[Tensor] = []
    there: list[Tensor] = []
    costs: list[Tensor] = []
    for chunk in torch.split(asked, max(_AT_ONCE // max(len(among), len(too_near)), 1)):
        if on_step(sum(len(each) for each in here) / len(asked)) and here:
            break
        own = patches[chunk]
        distance = torch.addmm(squares[None], own, others.T, alpha=-2)
        y, x = (at[chunk, None] + too_near).unbind(dim=2)
        inside = (y >= 0) & (y < numbers.shape[0]) & (x >= 0) & (x < numbers.shape[1])
        which = torch.arange(len(chunk))[:, None].expand_as(y)[inside]
        near = numbers[y[inside], x[inside]]
        distance[which[near >= 0], near[near >= 0]] = torch.inf
        least, index = distance.min(dim=1)
        has = least < torch.inf
        here.append(chunk[has])
        there.append(among[index[has]])
        costs.append((least + own.square().sum(dim=1)).clamp_(min=0)[has])
    return Pairs(torch.cat(here), torch.cat(there), torch.cat(costs))
