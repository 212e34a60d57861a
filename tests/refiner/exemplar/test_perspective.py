"""Copies in perspective: smaller copies of a photo, and the point that it runs to."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from refiner.exemplar import Exemplar, Level, perspective, structure
from refiner.exemplar.appearance import like_rim
from refiner.exemplar.energy import FORBIDDEN, Energy
from refiner.exemplar.judging import Judge
from refiner.exemplar.nodes import Nodes
from refiner.exemplar.palette import Palette
from refiner.exemplar.patch_search import PatchSearch, texture_of
from refiner.exemplar.patches import Scene
from refiner.exemplar.shift_map import choose_shifts, joined
from refiner.exemplar.views import SCALED, Views

if TYPE_CHECKING:
    from collections.abc import Callable

HEIGHT, WIDTH = 180, 240
POINT = 70.0, 130.0  # row and column that the made scenes run to


def box(top: int, left: int, bottom: int, right: int) -> Tensor:
    hole = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    hole[top:bottom, left:right] = True
    return hole


def disc(row: int, column: int, radius: int) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(HEIGHT) - row, torch.arange(WIDTH) - column, indexing="ij")
    return rows**2 + columns**2 < radius**2


def rays(count: int = 14) -> Tensor:
    """Wedges of colors about the point, the same again at every size; (3,H,W)."""
    rows, columns = torch.meshgrid(torch.arange(HEIGHT) - POINT[0], torch.arange(WIDTH) - POINT[1], indexing="ij")
    wedge = ((torch.atan2(rows, columns) / (2 * math.pi) + 0.5) * count).long() % count
    colors = torch.rand(count, 3, generator=torch.Generator().manual_seed(5))
    return colors[wedge].movedim(2, 0)


def noise() -> Tensor:
    return torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))


def palette_of(image: Tensor, hole: Tensor, views: Views) -> Palette:
    return Palette(image, hole, ~hole, views)


def test_a_smaller_copy_at_one_shift_shrinks_about_one_point() -> None:
    ramp = torch.stack([torch.arange(HEIGHT)[:, None].expand(-1, WIDTH), torch.arange(WIDTH).expand(HEIGHT, -1)])
    image = torch.cat([ramp, ramp[:1]]) / WIDTH
    views = Views(span=WIDTH + 20, mirrored=True).with_scaled([0.5])
    palette = palette_of(image, box(0, 0, 1, 1), views)
    shift = torch.tensor([round(-0.5 * POINT[0]), views.scaled[0].start + round(-0.5 * POINT[1])])
    places = torch.tensor([[70, 130], [80, 140], [60, 100]])
    at, may = palette.copied(places, shift)
    assert may.all()
    shown = palette.colors(at)[:, :2] * WIDTH
    shrunk = torch.tensor(POINT) + 2 * (places - torch.tensor(POINT))
    assert (shown - shrunk).abs().max() < 1.5
    assert torch.equal(palette.colors(at), palette.spread(image).flatten(1)[:, at].T)


@pytest.mark.parametrize("scale", [0.84, 0.5, 0.3])
def test_what_a_smaller_copy_reads_in_part_from_the_hole_may_not_be_copied(scale: float) -> None:
    hole = disc(75, 100, 18)
    views = Views(span=WIDTH + 20).with_scaled([scale])
    one, other = (palette_of(torch.where(hole, under, noise()), hole, views) for under in (0.0, rays(9)))
    at = torch.arange(HEIGHT * one.width)
    places, shifts = torch.zeros(len(at), 2).long(), torch.stack([at // one.width, at % one.width], dim=1)
    _, may = one.copied(places, shifts)
    small = may & (shifts[:, 1] >= views.scaled[0].start)
    assert 0.5 * scale**2 < small.sum() / (HEIGHT * WIDTH) < 0.99 * scale**2
    assert torch.equal(one.colors(at[may]), other.colors(at[may]))


@pytest.mark.parametrize("mirrored", [True, False])
def test_views_that_are_left_show_what_they_did(mirrored: bool) -> None:
    views = Views(span=WIDTH + 20, mirrored=True).with_scaled([0.7, 0.5, 0.3])
    image, hole = noise(), box(0, 0, 1, 1)
    start = views.scaled[1].start
    columns = torch.tensor([3, 100, start + 4, start + 60])
    kept = views.used(columns, torch.zeros(4).long(), mirrored=mirrored)
    assert (kept.mirrored, [scale for _, scale in kept.scaled]) == (mirrored, [0.5])
    moved = views.moved(columns, kept)
    before, after = palette_of(image, hole, views), palette_of(image, hole, kept)
    assert after.width < before.width
    assert torch.equal(before.colors(50 * before.width + columns), after.colors(50 * after.width + moved))
    gone = views.moved(torch.tensor([views.scaled[0].start + 5]), kept)
    assert gone < 0, "lies outside the palette"
    assert views.used(torch.tensor([5]), torch.tensor([0]), mirrored=False) == Views()


def test_a_small_part_keeps_the_view_that_it_copies_from() -> None:
    views = Views(span=WIDTH + 20, mirrored=True).with_scaled([0.7, 0.5])
    columns, part_of = torch.zeros(10_000).long(), torch.zeros(10_000).long()
    part_of[-100:] = 1
    columns[-100:] = views.scaled[1].start + 3
    columns[:100] = views.scaled[0].start + 3  # hardly any of a large part
    assert [scale for _, scale in views.used(columns, part_of, mirrored=False).scaled] == [0.5]


def test_views_do_not_overlap_at_twice_and_half_the_size() -> None:
    views = Views(span=WIDTH + 21, mirrored=True).with_scaled([0.7, 0.5])
    for sized, width in ((views, WIDTH), (views.doubled(), 2 * WIDTH + 1), (views.halved(WIDTH // 2), WIDTH // 2)):
        assert sized.span is not None
        ends = [2 * sized.span, *(start + math.floor(scale * width) for start, scale in sized.scaled)]
        starts = [start for start, _ in sized.scaled]
        assert all(end < start for end, start in zip(ends[:-1], starts, strict=True)), "or a piece could lie across"
        assert ends[-1] <= sized.width(width)


def test_lines_tell_where_they_run_to_and_noise_does_not() -> None:
    found = perspective._of_lines(rays(), box(100, 110, 150, 150))
    assert found is not None
    assert math.dist(found, POINT) < 4
    assert perspective._of_lines(noise(), box(100, 110, 150, 150)) is None


def test_a_scene_without_lines_tells_where_it_shrinks_toward() -> None:
    blobs = torch.nn.functional.avg_pool2d(rays(5)[None], 15, 1, 7)[0] + 0.02 * noise()
    found = perspective._of_scene(blobs, box(100, 110, 150, 150))
    assert found is not None
    assert math.dist(found, POINT) < 12


SMALL, HALF, STRIP, PIXEL = box(100, 110, 150, 150), box(0, 72, 180, 240), ~box(0, 0, 20, 240), ~box(80, 80, 81, 81)


@pytest.mark.parametrize("hole", [SMALL, HALF, STRIP, PIXEL], ids=["small", "half", "strip", "pixel"])
@pytest.mark.parametrize("image", [noise(), torch.full((3, HEIGHT, WIDTH), 0.5)], ids=["noise", "flat"])
def test_what_cannot_be_compared_runs_nowhere(image: Tensor, hole: Tensor) -> None:
    assert perspective._of_scene(image, hole) is None
    assert perspective._of_lines(image, hole) is None


def test_each_offset_keeps_the_point_in_place() -> None:
    views = Views(span=WIDTH + 20, mirrored=True)
    palette, offsets, numbers = perspective.offsets_in_perspective(palette_of(rays(), disc(130, 130, 20), views))
    point = torch.tensor(POINT)
    for offset, number in zip(offsets, numbers.tolist(), strict=True):
        at = point + offset
        assert int(palette.views.of(at[1:].long())) == number
        if number >= SCALED:
            start, scale = palette.views.scaled[number - SCALED]
            assert (at - torch.tensor([0, start]) - scale * point).abs().max() < 3
        else:
            assert palette.views.mirror is not None
            assert abs(float(2 * palette.views.mirror - at[1] - point[1])) < 9


def test_what_runs_to_a_point_goes_on_toward_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hole over many wedges, each of another color: hardly any shift continues two of them."""
    image, hole = rays(30), box(95, 90, 150, 170)

    def error() -> float:
        levels = [Level(torch.where(hole, 0.5, image)[None], hole[None, None])]
        return float((Exemplar(levels).render(0)[0] - image).abs()[:, hole].mean())

    straight = error()
    monkeypatch.setattr(structure, "_HARDLY_MORE", 0)
    assert straight < 0.5 * error()
    assert straight < 0.03


def test_a_point_that_does_not_count_for_the_hole_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stripes before a darker half, which shrinks into them about a point: far from what the rim shows."""
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    stripes = torch.where(columns < WIDTH // 2, 0.1, 0.5 + 0.4 * (rows % 12 < 6))
    image, hole = (stripes + 0.03 * noise()).clamp(0, 1), box(70, 160, 110, 210)

    def toward_the_dark(palette: Palette) -> perspective.Straight:
        wider = palette.beside(palette.views.with_scaled([0.5]))
        offset = torch.tensor([[-60, wider.views.scaled[0].start - 155]])
        return perspective.Straight(wider, offset, torch.tensor([SCALED]))

    def error() -> float:
        levels = [Level(torch.where(hole, 0.5, image)[None], hole[None, None])]
        return float((Exemplar(levels).render(0)[0] - image).abs()[:, hole].mean())

    monkeypatch.setattr(structure, "offsets_in_perspective", toward_the_dark)
    monkeypatch.setattr(structure, "_ASTRAY", FORBIDDEN)  # nothing else is cheaper
    monkeypatch.setattr(structure, "_HARDLY_MORE", math.inf)
    left = error()
    monkeypatch.setattr(structure, "_ASTRAY_FAULTS", math.inf)
    monkeypatch.setattr(structure, "_CLEARLY", 0)
    assert left < 0.03 < error()


@pytest.mark.parametrize("scene", [rays, noise])
def test_what_lies_under_the_hole_tells_nothing_of_where_it_runs(scene: Callable[[], Tensor]) -> None:
    image, hole = scene(), disc(125, 130, 30)
    found = []
    for under in (0.0, rays(9)):
        levels = [Level(torch.where(hole, under, image)[None], hole[None, None])]
        found.append(Exemplar(levels).render(0))
    assert torch.equal(*found)


def test_nodes_astray_take_what_is_beside_them() -> None:
    hole = box(60, 80, 90, 120)
    nodes, palette = Nodes(hole), palette_of(noise(), hole, Views())
    shifts = torch.tensor([50, 0]).repeat(len(nodes), 1)
    astray = torch.zeros(len(nodes), dtype=torch.bool)
    astray[::7] = True
    shifts[astray] = torch.tensor([0, -10_000])
    assert (joined(shifts, astray, nodes, palette) == torch.tensor([50, 0])).all()
    everyone = torch.ones_like(astray)
    shifts[:] = torch.tensor([0, -10_000])
    assert palette.copied(nodes.places, joined(shifts, everyone, nodes, palette))[1].all(), "or the nearest source"


def test_the_energy_of_parts_is_that_of_nodes_and_seams() -> None:
    hole = box(60, 80, 70, 90) | box(100, 150, 120, 170)
    nodes, palette = Nodes(hole), palette_of(noise(), hole, Views())
    shifts = torch.tensor([[30, 0], [0, 40]])[(nodes.places[:, 1] % 20 < 10).long()]
    energy = Energy(palette, hole, nodes)
    of_nodes = energy.of(torch.arange(len(nodes)), shifts)
    one, other = energy.edges
    of_seams = energy.seams(energy.edges, shifts[one], shifts[other][None])[0]
    first = nodes.places[:, 0] < 80
    expected = [of_nodes[each].sum() + of_seams[each[one]].sum() for each in (first, ~first)]
    assert torch.allclose(energy.of_parts(shifts), torch.stack(expected))


def test_an_offset_with_a_handicap_is_taken_where_it_has_none() -> None:
    image, hole = noise(), box(60, 80, 90, 120)
    nodes, palette = Nodes(hole), palette_of(image, hole, Views())
    offsets = torch.tensor([[40, 0], [60, 0]])
    left = nodes.places[:, 1] < 100
    handicap = torch.stack([~left, left]).float() * FORBIDDEN
    energy = Energy(palette, hole, nodes, like_rim(palette, nodes))
    shifts = choose_shifts(energy, offsets, None, 0, lambda _share: False, handicap)
    assert torch.equal(shifts, offsets[(~left).long()])


def test_the_judge_prefers_what_the_rim_suggests() -> None:
    """Stripes that a hole interrupts: copied in step, out of step, and from where all is darker."""
    rows = torch.arange(HEIGHT)[:, None].expand(-1, WIDTH)
    shade = torch.where(torch.arange(WIDTH) < WIDTH // 2, 0.4, 0.9)
    image = (shade * (0.5 + 0.5 * (rows % 12 < 6)) + 0.02 * noise()).clamp(0, 1)
    hole = box(80, 170, 110, 210)
    palette, nodes = palette_of(image, hole, Views()), Nodes(hole)
    search = PatchSearch(Scene(palette, texture_of(image, hole)), torch.Generator().manual_seed(0))
    judge = Judge(search, Energy(palette, hole, nodes, like_rim(palette, nodes)))
    in_step, out_of_step, darker = (
        float(judge.of(torch.tensor(shift).repeat(len(nodes), 1)).faults) for shift in ([36, 0], [42, 0], [36, -130])
    )
    assert in_step < 0.7 * out_of_step
    assert in_step < 0.7 * darker
