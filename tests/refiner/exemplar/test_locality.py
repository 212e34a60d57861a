"""Where like things lie in a photo: made scenes of which it is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from refiner.exemplar.locality import locality
from refiner.exemplar.matching import most_alike
from refiner.exemplar.nodes import Nodes
from refiner.exemplar.palette import Palette
from refiner.exemplar.patch_search import PatchSearch, texture_of, where_like_lie
from refiner.exemplar.patches import Scene
from refiner.exemplar.progress import unheard

HEIGHT, WIDTH = 96, 128


def noise() -> Tensor:
    return torch.randn(1, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0)).expand(3, -1, -1)


def board() -> Tensor:
    """The same grain anywhere."""
    return 0.5 + 0.1 * noise()


def ground() -> Tensor:
    """A grain that becomes coarser with each row, as far things are seen above near ones."""
    contrast = torch.linspace(0.02, 0.2, HEIGHT)[:, None]
    return 0.5 + contrast * noise()


def curtain() -> Tensor:
    """The same from left to right."""
    return 0.5 + torch.linspace(0.02, 0.2, WIDTH) * noise()


def hole() -> Tensor:
    hole = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    hole[40:60, 50:80] = True
    return hole


def scene(image: Tensor) -> Scene:
    return Scene(Palette(image, hole(), ~hole()), texture_of(image, hole()))


def square(apart: int) -> Tensor:
    """Offsets shorter than this along both axes."""
    line = torch.arange(1 - apart, apart)
    return torch.cartesian_prod(line, line)


def test_it_is_learned_along_which_axis_like_things_lie() -> None:
    anywhere, rows, columns = (where_like_lie(scene(image)) for image in (board(), ground(), curtain()))
    assert anywhere is not None
    assert rows is not None
    assert columns is not None
    assert rows.down > 5 * max(rows.right, anywhere.down)
    assert columns.right > 5 * max(columns.down, anywhere.right)


def test_a_hole_is_filled_from_where_like_things_lie() -> None:
    """What is found, in rows away: the grain of other rows could do too, where the rim says little."""
    apart = []
    nodes = Nodes(hole())
    for local in (where_like_lie(scene(ground())), None):
        search = PatchSearch(scene(ground()), torch.Generator().manual_seed(0), local)
        found = search.run(nodes, torch.full((len(nodes), 5), 0.5), unheard)
        apart.append(float(found.shifts[:, 0].abs().float().mean()))
    assert apart[0] < 0.3 * apart[1], "2 rows, and 14 where it does not count"


def test_the_nearest_that_is_not_near_by_is_found() -> None:
    looks = torch.tensor([[0.0], [0.1], [0.2], [1.0], [1.2]])
    places = torch.tensor([[0, 0], [0, 2], [0, 9], [9, 0], [9, 9]])
    found = most_alike(looks, places, torch.arange(5), torch.arange(5), square(5), unheard)
    of, most_like = (map(tuple, places[each].tolist()) for each in (found.asked, found.found))
    pairs = dict(zip(of, most_like, strict=True))
    assert pairs == {(0, 0): (0, 9), (0, 2): (0, 9), (0, 9): (0, 2), (9, 0): (9, 9), (9, 9): (9, 0)}
    assert found.cost.sort().values.tolist() == pytest.approx([0.01, 0.01, 0.04, 0.04, 0.04], abs=1e-6)


@pytest.mark.parametrize("apart", [5, 50])
def test_few_patches_tell_little_and_none_nothing(apart: int) -> None:
    random = torch.Generator().manual_seed(0)
    looks, places = torch.zeros(3, 1), torch.tensor([[0, 0], [0, 9], [9, 0]])
    found = most_alike(looks, places, torch.arange(3), torch.arange(3), square(apart), unheard)
    told = locality(found, places, (20, 20), apart, random)
    assert all(0 <= each < 400 / 49 for each in told)
    assert told.scales((20, 20), found.cost) == (0, 0)
