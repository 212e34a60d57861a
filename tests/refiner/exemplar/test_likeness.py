"""A fill's unlikeness to its photo: made scenes of which it is known what is broken."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from refiner.errors import InputError
from refiner.exemplar import unlikeness

SIDE = 256


def hole() -> Tensor:
    where = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.bool)
    where[..., 88:168, 88:168] = True
    return where


def grained(picture: Tensor) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return (picture + 0.02 * torch.randn(picture.shape, generator=random)).clamp(0, 1).expand(1, 3, -1, -1)


def edge(bend: float = 0.0, cut: int = SIDE) -> Tensor:
    """A straight slanted edge; in the hole it bends by this slope, or ends at this column."""
    rows, columns = torch.meshgrid(torch.arange(SIDE).float(), torch.arange(SIDE).float(), indexing="ij")
    middle = SIDE / 2
    straight = rows > middle + 0.3 * (columns - middle)
    bent = rows > middle + (0.3 + bend) * (columns - middle)
    inside = hole()[0, 0]
    shown = torch.where(inside, bent & (columns < cut), straight)
    return grained(torch.where(shown, 0.3, 0.7)[None, None])


def wall(step: int = 0) -> Tensor:
    """Bricks, which in the hole are out of step by some pixels."""
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    columns = torch.where(hole()[0, 0], columns + step, columns)
    joint = (rows % 16 < 3) | ((columns + 16 * (rows // 16 % 2)) % 32 < 3)
    return grained(torch.where(joint, 0.8, 0.4)[None, None])


def test_an_edge_that_goes_on_is_likest_and_one_that_ends_is_least() -> None:
    straight, bent, cut = (unlikeness(each, hole()) for each in (edge(), edge(bend=-0.6), edge(cut=128)))
    assert straight < 0.8 * bent
    assert straight < 0.7 * cut


def test_a_wall_out_of_step_is_less_like_itself() -> None:
    assert unlikeness(wall(), hole()) < 0.8 * unlikeness(wall(step=9), hole())


def test_a_smear_is_less_like_the_photo() -> None:
    smear = torch.where(hole(), torch.tensor(0.5), wall())
    assert unlikeness(wall(), hole()) < 0.7 * unlikeness(smear, hole())


def test_the_size_of_a_picture_hardly_matters() -> None:
    large = torch.nn.functional.interpolate(edge(cut=128), scale_factor=2, mode="nearest")
    large_hole = torch.nn.functional.interpolate(hole().float(), scale_factor=2, mode="nearest") > 0
    assert math.isclose(unlikeness(large, large_hole), unlikeness(edge(cut=128), hole()), rel_tol=0.3)


@pytest.mark.parametrize(
    ("picture", "where", "line"),
    [
        (torch.rand(1, 3, 64, 64), torch.zeros(1, 1, 64, 64, dtype=torch.bool), "the hole is empty"),
        (torch.rand(1, 3, 64, 64), torch.ones(1, 1, 64, 64, dtype=torch.bool), "next to nothing is known"),
        (torch.rand(1, 3, 64, 64), torch.ones(1, 1, 64, 60, dtype=torch.bool), "expected"),
    ],
)
def test_bad_input_gets_a_line(picture: Tensor, where: Tensor, line: str) -> None:
    with pytest.raises(InputError, match=line):
        unlikeness(picture, where)
