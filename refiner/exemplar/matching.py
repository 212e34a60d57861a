"""Which known patches of a photo look alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from refiner.exemplar.nodes import picked

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
    # Of those to choose from, with room around them for all that is too near.
    room = int(too_near.abs().max()) if len(too_near) else 0
    numbers = torch.full((int(at[:, 0].max()) + 1 + 2 * room, int(at[:, 1].max()) + 1 + 2 * room), -1)
    numbers[at[among, 0] + room, at[among, 1] + room] = torch.arange(len(among))
    stride = numbers.shape[1]
    places, steps = ((each + offset) @ torch.tensor([stride, 1]) for each, offset in ((at, room), (too_near, 0)))
    here: list[Tensor] = []
    there: list[Tensor] = []
    costs: list[Tensor] = []
    for chunk in torch.split(asked, max(_AT_ONCE // max(len(among), len(too_near)), 1)):
        if on_step(sum(len(each) for each in here) / len(asked)) and here:
            break
        own = patches[chunk]
        distance = torch.addmm(squares[None], own, others.T, alpha=-2)
        near = picked(numbers.flatten(), places[chunk, None] + steps)
        cells = (near + len(among) * torch.arange(len(chunk))[:, None])[near >= 0]
        distance.flatten().index_fill_(0, cells, torch.inf)
        least, index = distance.min(dim=1)
        has = least < torch.inf
        here.append(chunk[has])
        there.append(among[index[has]])
        costs.append((least + own.square().sum(dim=1)).clamp_(min=0)[has])
    return Pairs(torch.cat(here), torch.cat(there), torch.cat(costs))
