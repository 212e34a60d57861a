"""Edges that go on under holes, from rim to rim: made scenes whose right content is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from refiner.exemplar import Exemplar, Level, palette
from refiner.exemplar.lines import Line, drawn, lines_under
from refiner.exemplar.palette import Palette

HEIGHT, WIDTH = 150, 200
SHARES = torch.linspace(0, 1, 30)


def places() -> tuple[Tensor, Tensor]:
    rows, columns = torch.meshgrid(torch.arange(HEIGHT).float(), torch.arange(WIDTH).float(), indexing="ij")
    return rows - HEIGHT / 2, columns - WIDTH / 2


def scene(side: Tensor) -> Tensor:
    """Dark where a distance in pixels is negative, light elsewhere, as soft as a photo's, with some noise; (3,H,W)."""
    noise = 0.02 * torch.randn(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    return torch.stack([0.2 + share * (side / 0.7).sigmoid() for share in (0.5, 0.4, 0.6)]) + noise


def straight(degrees: float, aside: float = 0.0) -> Tensor:
    """The distance from a line through the middle, or aside of it, in pixels; (H,W)."""
    y, x = places()
    return y * math.cos(math.radians(degrees)) - x * math.sin(math.radians(degrees)) - aside


def disk(high: int = 50, wide: int = 40) -> Tensor:
    """A hole in the middle; (H,W), bool."""
    y, x = places()
    return (y / high).square() + (x / wide).square() < 1


def astray(line: Line, side: Tensor) -> float:
    """How far a line is from a border at most, in pixels."""
    x, y = line.at(SHARES).round().long().T
    return float(side[y, x].abs().max())


@pytest.mark.parametrize("degrees", [0, 17, -35, 52, 90, 118])
@pytest.mark.parametrize("aside", [0, 22])
def test_a_border_is_found_on_both_sides(degrees: float, aside: float) -> None:
    side, hole = straight(degrees, aside), disk()
    lines = lines_under(torch.where(hole, 0, scene(side)), hole)
    assert len(lines) == 1
    assert lines[0].likely > 0.4
    assert astray(lines[0], side) < 4, "of 80 pixels or more"
    assert hole[lines[0].at(SHARES[3:-3]).round().long().flip(1).unbind(1)].all()


@pytest.mark.parametrize("upward", [1, -1])
def test_a_curved_border_is_found_as_an_arc(upward: int) -> None:
    y, x = places()
    side = (x.square() + (upward * y + 60).square()).sqrt() - 60
    hole = disk(60, 25)
    (line,) = lines_under(torch.where(hole, 0, scene(side)), hole)
    assert abs(math.degrees(line.angle)) > 10
    assert astray(line, side) < 0.6 * astray(line._replace(angle=0.0), side)


def test_what_is_drawn_is_what_is_hidden() -> None:
    side, hole = straight(25), disk()
    image = scene(side)
    hidden = torch.where(hole, 0, image)
    picture, where = drawn(hidden, hole, lines_under(hidden, hole))
    assert torch.equal(picture[:, ~where], hidden[:, ~where])
    assert not (where & ~hole).any()
    assert where[hole & (side.abs() < 1)].float().mean() > 0.9
    assert not where[side.abs() > 5].any()
    assert (picture - image).abs()[:, where].mean() < 0.05


def test_nothing_is_drawn_where_nothing_goes_on() -> None:
    hole, (_, x) = disk(), places()
    random = torch.Generator().manual_seed(0)
    noise = torch.rand(3, HEIGHT, WIDTH, generator=random)
    smooth = (x / WIDTH + 0.5).expand(3, HEIGHT, WIDTH)
    ends = scene(torch.where(x < 0, straight(0), 20.0))  # on one side alone
    turned = scene(torch.where(x < 0, straight(0), -straight(0)))  # dark below on one side, above on the other
    for image in (noise, smooth, ends, turned, torch.zeros(3, HEIGHT, WIDTH)):
        assert lines_under(image, hole) == []


def test_lines_do_not_cross() -> None:
    """Of two borders that do, what is seen more clearly goes on, as the one in front may."""
    hole = disk()
    one, other = straight(20), straight(-40)
    image = scene(one) + scene(other) / 3
    lines = lines_under(torch.where(hole, 0, image), hole)
    assert lines
    assert astray(lines[0], one) < 4
    assert all(astray(line, other) > 10 for line in lines)


def test_what_is_hidden_does_not_matter() -> None:
    image, hole = scene(straight(30)), disk()
    found = [lines_under(torch.where(hole, hidden, image), hole) for hidden in (0, 1)]
    one, other = (drawn(torch.where(hole, 0, image), hole, each)[0] for each in found)
    assert torch.equal(one, other)


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (12, 12), (40, 30)])
def test_any_picture_and_any_hole_will_do(size: tuple[int, int]) -> None:
    random = torch.Generator().manual_seed(0)
    image = torch.rand(3, *size, generator=random)
    holes = [torch.zeros(size), torch.ones(size), torch.rand(size, generator=random)]
    holes[1][0, 0] = 0
    for hole in (each > 0.5 for each in holes):
        picture, where = drawn(image, hole, lines_under(image, hole))
        assert torch.equal(picture[:, ~hole], image[:, ~hole])
        assert not (where & ~hole).any()


def test_all_of_a_hole_may_be_drawn() -> None:
    hole = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    hole[74:77, 90:110] = True
    image = scene(straight(0))
    suggested = Palette(image, hole, ~hole).suggested
    assert torch.equal(suggested.lines, hole)
    assert (suggested.image - image).abs()[:, hole].mean() < 0.05


def test_a_wall_goes_on_where_a_hole_grazes_it(monkeypatch) -> None:
    """Most of the hole's rim on one side is wall: what is carried inward from it bulges into the sky."""
    side, (y, x) = straight(70), places()
    hole = ((y / 55).square() + ((x - 6) / 22).square() < 1) | (y.square() + (x + 6).square() < 15**2)
    rough = torch.randn(1, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(2))
    image = (scene(side) + 0.06 * rough * (side < -1)).clamp(0, 1)

    def wrong() -> float:
        level = Level(torch.where(hole, 0, image)[None], hole[None, None])
        filled = Exemplar([level]).render(0)[0]
        light = image.mean(dim=0) > 0.45
        return float(((filled.mean(dim=0) > 0.45) != light)[hole & (side.abs() > 2)].float().mean())

    error = wrong()
    monkeypatch.setattr(palette, "lines_under", lambda *_: [])
    assert error < 0.02
    assert error <= wrong()
