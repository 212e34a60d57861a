"""Shifts that are frequent in each tile of a hole: where it spreads over a photo, its parts go by different ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

_SIDE = 24  # pixels of a tile
_CELL = 3  # pixels: of shifts as near together as this, one is enough, as pieces are nudged later on
_LEAST_VOTES = 6  # of pixels of a tile, for such shifts
RANKS = 8  # shifts of a tile at most


def frequent_by_tile(places: Tensor, shifts: Tensor, corner: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The most frequent shift of each tile, then the second of each, and so on.

    Args:
        places: of pixels; (n,2).
        shifts: theirs; (n,2).
        corner: pixels above and left of the picture, fewer than a tile has, at which the first tile begins.

    Yields:
        `RANKS` times at most: which pixels lie in tiles that have as many shifts, (k,), and that of their tile, (k,2).
    """
    if not len(places):
        return
    rows, columns = ((places + corner) // _SIDE).T
    tile = rows * (int(columns.max()) + 1) + columns
    low = shifts.amin(dim=0)
    height, width = (shifts.amax(dim=0) - low + 1).tolist()
    y, x = (shifts - low).T
    found, votes = np.unique(((tile * height + y) * width + x).numpy(), return_counts=True)
    tile_of, y_of, x_of = found // (height * width), found // width % height, found % width

    cell = (tile_of * height + y_of // _CELL) * width + x_of // _CELL
    order = np.lexsort((-votes, cell))
    first = np.flatnonzero(np.diff(cell[order], prepend=-1))
    best, total = order[first], np.add.reduceat(votes[order], first)
    enough = total >= _LEAST_VOTES
    best, total = best[enough], total[enough]
    best = best[np.lexsort((-total, tile_of[best]))]
    owner = tile_of[best]
    rank = np.arange(len(best)) - np.searchsorted(owner, owner)

    offsets = torch.from_numpy(np.stack([y_of[best], x_of[best]], axis=1)) + low
    for number in range(min(RANKS, int(rank.max(initial=-1)) + 1)):
        some = np.flatnonzero(rank == number)
        of_tile = torch.full((int(tile.max()) + 1,), -1)
        of_tile[owner[some]] = torch.from_numpy(some)
        which = (of_tile[tile] >= 0).nonzero()[:, 0]
        yield which, offsets[of_tile[tile[which]]]


def corners() -> tuple[int, int]:
    """Two places for tiles to begin, whose edges lie in the middle of one another's."""
    return 0, _SIDE // 2
