"""Shifts that are frequent in a tile, ranked, for pixels all over a picture."""

from __future__ import annotations

import torch

from refiner.exemplar.tiles import RANKS, corners, frequent_by_tile

PLACES = torch.cartesian_prod(torch.arange(24), torch.arange(48))  # two tiles side by side
LEFT = PLACES[:, 1] < 24


def ranked(shifts: torch.Tensor, corner: int = 0) -> list[dict[tuple[int, int], set[int]]]:
    """For each rank the columns of the pixels that are offered a shift."""
    ranks = []
    for which, offered in frequent_by_tile(PLACES, shifts, corner):
        columns: dict[tuple[int, int], set[int]] = {}
        for place, (y, x) in zip(PLACES[which], offered.tolist(), strict=True):
            columns.setdefault((y, x), set()).add(int(place[1]))
        ranks.append(columns)
    return ranks


def test_each_tile_is_offered_its_own_shifts_the_most_frequent_first() -> None:
    shifts = torch.where(LEFT[:, None], torch.tensor([5, -40]), torch.tensor([-7, 0]))
    shifts[(PLACES[:, 0] < 5) & LEFT] = torch.tensor([100, 3])
    left, right = set(range(24)), set(range(24, 48))
    assert ranked(shifts) == [{(5, -40): left, (-7, 0): right}, {(100, 3): left}]


def test_other_corners_part_the_picture_in_the_middle_of_tiles() -> None:
    shifts = torch.where(LEFT[:, None], torch.tensor([5, -40]), torch.tensor([-7, 0]))
    first, other = corners()
    assert first == 0
    most, second = ranked(shifts, other)
    assert set(range(12, 36)) == {column for columns in second.values() for column in columns}
    assert set(range(48)) == {column for columns in most.values() for column in columns}


def test_of_shifts_side_by_side_one_is_offered() -> None:
    shifts = torch.tensor([6, 6]).repeat(len(PLACES), 1)
    shifts[PLACES[:, 0] < 10] = torch.tensor([7, 8])
    assert [set(columns) for columns in ranked(shifts)] == [{(6, 6)}]


def test_what_few_pixels_found_is_not_offered() -> None:
    random = torch.Generator().manual_seed(0)
    assert ranked(torch.randint(-400, 400, (len(PLACES), 2), generator=random)) == []
    assert list(frequent_by_tile(PLACES[:0], PLACES[:0], 0)) == []


def test_a_tile_is_offered_so_many_at_most() -> None:
    shifts = torch.stack([10 * PLACES[:, 0], torch.zeros(len(PLACES), dtype=torch.long)], dim=1)
    assert len(ranked(shifts)) == RANKS < 24
