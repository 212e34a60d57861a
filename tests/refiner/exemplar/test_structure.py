"""Structure from searched patches: made scenes of which it is known how they go on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from refiner.exemplar import Exemplar, Level, structure
from refiner.exemplar.appearance import like_found
from refiner.exemplar.judging import Judge, Verdict
from refiner.exemplar.nodes import Nodes
from refiner.exemplar.palette import Palette
from refiner.exemplar.patch_search import PatchSearch, texture_of, texture_without_edges
from refiner.exemplar.patches import Found, Scene, looks_of
from refiner.exemplar.progress import unheard

HEIGHT, WIDTH = 180, 240


def noise(seed: int, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    """Fine texture around 0; (3,H,W)."""
    random = torch.Generator().manual_seed(seed)
    return 0.05 * torch.randn(1, height, width, generator=random).expand(3, -1, -1)


def slope(height: int = HEIGHT, width: int = WIDTH, lift: int = 0) -> Tensor:
    """A bright sky over a dark slope, whose ridge rises to the right; (3,H,W)."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    below = (rows - lift) * 2 > 1.4 * height - 0.9 * columns
    return torch.where(below, 0.25, 0.8) + noise(0, height, width) * below


def bricks(height: int = HEIGHT, width: int = WIDTH, step: int = 0) -> Tensor:
    """Courses of bricks, every other one half a brick along; (3,H,W)."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    course = rows // 10
    joint = (rows % 10 < 2) | ((columns + 12 * (course % 2) + step) % 24 < 2)
    return torch.where(joint, 0.75, 0.4).expand(3, -1, -1) + 0.5 * noise(1, height, width)


def box(top: int, left: int, bottom: int, right: int) -> Tensor:
    hole = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    hole[top:bottom, left:right] = True
    return hole


def search_of(image: Tensor, hole: Tensor) -> PatchSearch:
    palette = Palette(image, hole, ~hole)
    scene = Scene(palette, texture_of(image, hole))
    return PatchSearch(scene, torch.Generator().manual_seed(0))


def filled(image: Tensor, hole: Tensor) -> Tensor:
    return Exemplar([Level(image.clamp(0, 1)[None], hole[None, None])]).render(0)[0]


@pytest.mark.parametrize("scene", [slope, bricks])
def test_what_enters_a_hole_on_one_side_leaves_it_on_the_other(scene: object) -> None:
    image = scene()  # type: ignore[operator]
    hole = box(60, 85, 120, 155)
    error = (filled(image, hole) - image.clamp(0, 1)).abs().mean(dim=0)[hole]
    assert (error > 0.25).float().mean() < 0.05, "of the hole is on the wrong side of an edge"


@pytest.mark.parametrize("scene", [slope, bricks])
def test_a_scene_out_of_step_has_more_faults(scene: object) -> None:
    """The scene as it is, and the same in the hole moved by a few pixels: the edges end at the rim."""
    image = scene()  # type: ignore[operator]
    moved = slope(lift=14) if scene is slope else bricks(step=9)
    hole = box(60, 85, 120, 155)
    search = search_of(image, hole)
    faults = []
    for shown in (image, moved):
        looks = looks_of(shown, texture_of(shown, torch.zeros_like(hole)))[:, hole].T
        faults.append(float(search.faults(Nodes(hole), looks)))
    assert faults[0] < 0.8 * faults[1]


def test_patches_are_found_where_the_scene_repeats() -> None:
    """A tile over and over: each patch of the hole is found whole, at a distance of whole tiles."""
    tile = torch.rand(3, 20, 24, generator=torch.Generator().manual_seed(3))
    image = tile.repeat(1, 9, 10)
    hole = box(70, 90, 110, 140)
    search, nodes = search_of(image, hole), Nodes(hole)
    gray = torch.full((len(nodes), 5), 0.5)
    found = search.run(nodes, gray, lambda _share: False)
    exact = (found.shifts[:, 0] % 20 == 0) & (found.shifts[:, 1] % 24 == 0)
    assert exact.float().mean() > 0.95
    assert (found.colors.T - image[:, hole]).abs().mean() < 0.02


def test_what_patches_reach_across_is_searched_at_its_own_size(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(structure, "PatchSearch", refuse)
    filled(slope(), box(90, 40, 97, 200))
    with pytest.raises(AssertionError):
        filled(slope(), box(60, 85, 120, 155))


def test_an_edge_between_smooth_things_is_no_texture() -> None:
    """Beside the border of two smooth thirds there is none; a rough third has texture away from its end."""
    columns = torch.arange(WIDTH)[None, :]
    rough = columns >= 2 * WIDTH // 3
    image = torch.where(columns < WIDTH // 3, 0.2, 0.8) + noise(5) * rough
    hole = box(60, 95, 120, 140)
    with_edge, without = (texture(image, hole).amax(dim=0) for texture in (texture_of, texture_without_edges))
    beside = ((columns - WIDTH // 3).abs() > 2) & (columns < 2 * WIDTH // 3 - 10) & ~hole
    assert float(with_edge[beside].max()) > 0.05
    assert float(without[beside].max()) < 1e-6
    inside = (columns >= 2 * WIDTH // 3 + 5) & ~hole
    assert without[inside].mean() > 0.5 * with_edge[inside].mean()
    assert not without[hole].any()


def test_texture_is_asked_for_where_its_colors_are_beside_the_hole() -> None:
    """A smooth sky beside a rough wood: what is found of one color is to be as rough as that color is there."""
    sky = torch.arange(HEIGHT)[:, None] < HEIGHT // 2
    tint = torch.tensor([0.4, 0.6, 0.9])[:, None, None], torch.tensor([0.2, 0.3, 0.1])[:, None, None]
    image = torch.where(sky, tint[0], tint[1] + noise(5))
    hole = box(60, 85, 120, 155)
    scene = Scene(Palette(image, hole, ~hole), texture_of(image, hole))
    count = int(hole.sum())
    asked: dict[bool, list[Tensor]] = {False: [], True: []}
    for color in (*tint, torch.tensor([1.0, 0.0, 0.0])[:, None, None]):
        looks = torch.cat([color[:, :, 0].T.expand(count, 3), torch.zeros(count, 2)], dim=1)
        found = Found(hole, looks, torch.zeros(count, 2, dtype=torch.long))
        for calmer, of in asked.items():
            of.append(like_found(scene, found, torch.full((count,), calmer)).fill[:, 3].mean().exp())
    smooth, rough, unknown = asked[False]
    assert smooth < 0.2 * rough
    assert smooth < unknown < rough, "neither color is like it"
    torch.testing.assert_close(asked[True][1], (smooth * rough).sqrt(), rtol=0.1, atol=0, msg="halfway to none")


def test_texture_is_asked_for_along_rows_or_columns() -> None:
    """Pillars beside the hole: steps along rows are asked for, and hardly any along columns."""
    columns = torch.arange(WIDTH)[None, :]
    image = torch.where(columns // 3 % 2 == 0, 0.4, 0.5).expand(3, HEIGHT, -1).contiguous()
    hole = box(60, 85, 120, 155)
    scene = Scene(Palette(image, hole, ~hole), texture_of(image, hole))
    count = int(hole.sum())
    looks = torch.cat([torch.full((count, 3), 0.45), torch.zeros(count, 2)], dim=1)
    found = Found(hole, looks, torch.zeros(count, 2).long())
    wanted = like_found(scene, found, torch.zeros(count, dtype=torch.bool)).fill[:, 3:].exp()
    assert float(wanted[:, 1].max()) < 0.1 * float(wanted[:, 0].min())


@pytest.mark.parametrize(
    ("seed", "of_offsets", "expected"), [(0, 1.1, True), (0, 0.9, False), (1, 1.1, False), (2, 0.9, True)]
)
def test_the_fill_not_taken_is_there_with_another_seed(
    monkeypatch: pytest.MonkeyPatch, seed: int, of_offsets: float, *, expected: bool
) -> None:
    """Odd seeds like copies at the photo's offsets, even ones those that follow a search of patches."""
    image, hole = bricks().clamp(0, 1), box(60, 85, 120, 155)
    asked = judged(monkeypatch, of_offsets, 1.0, 1.0)
    shifts = Exemplar([Level(image[None], hole[None, None])], seed=seed).shifts(0)
    assert shifts is not None
    assert not torch.equal(asked[0], asked[1])
    assert torch.equal(shifts[:, hole].T, asked[1 if expected else 0])


@pytest.mark.parametrize(("without", "expected"), [(0.8, 2), (0.95, 1)])
def test_less_texture_is_asked_for_where_it_makes_rubble(
    monkeypatch: pytest.MonkeyPatch, without: float, expected: int
) -> None:
    """A smooth wall and bricks: copies that are asked for the texture beside the hole, and for less."""
    wall = torch.arange(WIDTH)[None, :] < WIDTH // 2
    image, hole = torch.where(wall, 0.4, bricks()).clamp(0, 1), box(60, 85, 120, 155)
    asked = judged(monkeypatch, 2.0, 1.0, without)
    shifts = Exemplar([Level(image[None], hole[None, None])]).shifts(0)
    assert shifts is not None
    assert not torch.equal(asked[1], asked[2])
    assert torch.equal(shifts[:, hole].T, asked[expected])


@pytest.mark.parametrize("place", [0, 1, 2])
def test_of_several_searches_that_counts_whose_copies_show_least(monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    """One finds bricks in step with those around the hole, two others bricks out of step."""
    image, hole = bricks().clamp(0, 1), box(60, 85, 120, 155)
    in_step = torch.tensor([0, -72])
    finds = [torch.tensor([0, -77]), torch.tensor([0, 80])]
    finds.insert(place, in_step)
    begun: list[tuple[bool, Tensor]] = []

    def run(_search: PatchSearch, nodes: Nodes, looks: Tensor, _on_step: object, *, tiny: bool = False) -> Found:
        begun.append((tiny, looks))
        everywhere = torch.ones_like(hole)
        return Found(
            everywhere, torch.zeros(hole.numel(), looks.shape[1]), finds[len(begun) - 1].expand(hole.numel(), 2)
        )

    monkeypatch.setattr(PatchSearch, "run", run)
    monkeypatch.setattr(structure, "follow_found", lambda *args: args[5].clone())
    asked = judged(monkeypatch, 2.0, 1.0, 1.0)
    assert Exemplar([Level(image[None], hole[None, None])]).shifts(0) is not None
    assert (asked[1] == in_step).all()
    assert [tiny for tiny, _ in begun] == [False, False, True]
    assert torch.equal(begun[1][1], begun[2][1]), "what the rim suggests"
    assert not torch.equal(begun[0][1], begun[1][1])


def judged(monkeypatch: pytest.MonkeyPatch, *faults: float) -> list[Tensor]:
    """The shift maps that are judged, to have these faults one after the other."""
    asked: list[Tensor] = []

    def of(_judge: Judge, shifts: Tensor) -> Verdict:
        asked.append(shifts.clone())
        return Verdict(torch.tensor([faults[len(asked) - 1]]), torch.ones(1))

    monkeypatch.setattr(Judge, "of", of)
    return asked


def test_a_meadow_is_not_copied_from_a_few_places_again_and_again() -> None:
    """Begun without any texture: what is smooth in the photo is like it everywhere."""
    meadow, hole = 0.4 + 2 * noise(2), box(40, 60, 140, 180)
    nodes, even = Nodes(hole), torch.zeros_like(meadow[:2])
    looks = looks_of(torch.full_like(meadow, 0.4), even)[:, hole].T
    found = search_of(meadow, hole).run(nodes, looks, unheard)
    taken = torch.unique(nodes.places + found.shifts, dim=0, return_counts=True)[1]
    often = taken[taken > 4].sum() / taken.sum()
    assert often < 0.4, "0.8 where it costs nothing"
    assert 0.6 < found.colors.std() / meadow.std() < 1
