"""Edges carried into holes: made scenes whose right content is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from refiner.exemplar import Exemplar, Level
from refiner.exemplar.laplace import harmonic_fill
from refiner.exemplar.transport import carried_inward

HEIGHT, WIDTH = 120, 160


def border(degrees: float) -> Tensor:
    """Dark on one side of a line through the middle, light on the other, as soft as a photo's; (3,H,W)."""
    rows, columns = torch.meshgrid(torch.arange(HEIGHT).float(), torch.arange(WIDTH).float(), indexing="ij")
    angle = torch.tensor(degrees).deg2rad()
    side = (rows - HEIGHT / 2) * angle.cos() - (columns - WIDTH / 2) * angle.sin()
    return torch.stack([0.2 + 0.6 * (side / 1.5).sigmoid()] * 3)


def stroke(width: int = 10) -> Tensor:
    """Upright, through the middle; (H,W), bool."""
    hole = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    hole[20:100, 80 - width // 2 : 80 + width // 2] = True
    return hole


@pytest.mark.parametrize("degrees", [0, 20, -35, 50])
def test_a_border_goes_on_straight(degrees: float) -> None:
    image, hole = border(degrees), stroke()
    error, smooth = (
        float((fill(torch.where(hole, 0, image), hole) - image).abs()[:, hole].mean())
        for fill in (carried_inward, harmonic_fill)
    )
    assert error < 0.015
    assert error < 0.6 * smooth


def test_what_is_known_stays_and_what_is_hidden_does_not_matter() -> None:
    random = torch.Generator().manual_seed(0)
    image, hole = torch.rand(3, 61, 83, generator=random), torch.rand(61, 83, generator=random) < 0.3
    filled = carried_inward(torch.where(hole, 0, image), hole)
    assert torch.equal(filled[:, ~hole], image[:, ~hole])
    assert torch.equal(carried_inward(torch.where(hole, 1, image), hole), filled)
    assert image[:, ~hole].min() - 1e-6 <= filled.min()
    assert filled.max() <= image[:, ~hole].max() + 1e-6


@pytest.mark.parametrize("rows", [(0, 3), (40, 44), (10, 43)])
def test_it_is_filled_to_its_middle_wherever_it_lies(rows: tuple[int, int]) -> None:
    """At the picture's edge, in a corner, deeper than colors are carried at once; small sizes may be all hole."""
    hole = torch.zeros(44, 30, dtype=torch.bool)
    hole[slice(*rows)] = True
    flat = torch.full((3, 44, 30), 0.3)
    torch.testing.assert_close(carried_inward(torch.where(hole, 0.9, flat), hole), flat)


def test_nothing_but_a_pixel_is_known() -> None:
    hole = torch.ones(5, 7, dtype=torch.bool)
    hole[2, 3] = False
    flat = torch.full((3, 5, 7), 0.6)
    torch.testing.assert_close(carried_inward(torch.where(hole, 0, flat), hole), flat)


def curve(seed: int) -> tuple[Tensor, Tensor]:
    """A valley between a bright and a dark texture, (3,200,300), and where it is dark."""
    random = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(200).float(), torch.arange(300).float(), indexing="ij")
    dark = rows > 60 + 80 * ((columns - 150) / 150) ** 2
    textures = (mean + depth * torch.randn(3, 200, 300, generator=random) for mean, depth in ((0.3, 0.1), (0.7, 0.04)))
    return torch.where(dark, *textures).clamp(0, 1), dark


def test_copies_follow_a_border_that_no_shift_continues() -> None:
    """Where it bends under a wide hole. By the smoothest fill in its place 15 % lie on the wrong side."""
    wrong = []
    for seed in range(4):
        image, dark = curve(seed)
        hole = torch.zeros_like(dark)
        hole[30:170, 20:110] = True
        fill = Exemplar([Level(torch.where(hole, 0, image)[None], hole[None, None])]).render(0)
        looks_dark = torch.nn.functional.avg_pool2d(fill.mean(dim=1, keepdim=True), 5, 1, 2)[0, 0] < 0.5
        wrong.append(float((looks_dark != dark)[hole].float().mean()))
    assert sum(wrong) / len(wrong) < 0.14
