"""Copies in perspective: smaller copies of a photo, and the point that it runs to."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from refiner.exemplar import Exemplar, Level, perspective, structure
from refiner.exemplar.judging import Judge
from refiner.exemplar.nodes import Nodes
from refiner.exemplar.palette import Palette
from refiner.exemplar.patch_search import PatchSearch, texture_of
from refiner.exemplar.patches import Scene
from refiner.exemplar.shift_map import joined
from refiner.exemplar.views import Views

if TYPE_CHECKING:
    from collections.abc import Callable

HEIGHT, WIDTH = 180, 240
POINT = 70.0, 130.0  # row and column that the made scenes run to


def box(top: int, left: int, bottom: int, right: int) -> Tensor:
    hole = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    hole[top:bottom, left:right] = True
    return hole


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


def test_what_a_smaller_copy_reads_in_part_from_the_hole_may_not_be_copied() -> None:
    hole = box(60, 80, 90, 120)
    views = Views(span=WIDTH + 20).with_scaled([0.5])
    one, other = (palette_of(torch.where(hole, under, noise()), hole, views) for under in (0.0, 1.0))
    at = torch.arange(HEIGHT * one.width)
    places, shifts = torch.zeros(len(at), 2).long(), torch.stack([at // one.width, at % one.width], dim=1)
    _, may = one.copied(places, shifts)
    small = may & (shifts[:, 1] >= views.scaled[0].start)
    assert HEIGHT * WIDTH / 8 < small.sum() < HEIGHT * WIDTH / 4 - 30 * 40 / 4, (
        "and a margin around the hole is left out"
    )
    assert torch.allclose(one.colors(at[may]), other.colors(at[may]), atol=2e-4)


@pytest.mark.parametrize("mirrored", [True, False])
def test_views_that_are_left_show_what_they_did(mirrored: bool) -> None:
    views = Views(span=WIDTH + 20, mirrored=True).with_scaled([0.7, 0.5, 0.3])
    image, hole = noise(), box(0, 0, 1, 1)
    start = views.scaled[1].start
    columns = torch.tensor([3, 100, start + 4, start + 60])
    kept = views.used(columns, mirrored=mirrored)
    assert (kept.mirrored, [scale for _, scale in kept.scaled]) == (mirrored, [0.5])
    moved = views.moved(columns, kept)
    before, after = palette_of(image, hole, views), palette_of(image, hole, kept)
    assert after.width < before.width
    assert torch.equal(before.colors(50 * before.width + columns), after.colors(50 * after.width + moved))
    gone = views.moved(torch.tensor([views.scaled[0].start + 5]), kept)
    assert gone < 0, "lies outside the palette"
    assert views.used(torch.tensor([5]), mirrored=False) == Views()


def test_views_do_not_overlap_at_twice_and_half_the_size() -> None:
    views = Views(span=WIDTH + 21, mirrored=True).with_scaled([0.7, 0.5])
    for sized, width in ((views, WIDTH), (views.doubled(), 2 * WIDTH + 1), (views.halved(WIDTH // 2), WIDTH // 2)):
        assert sized.span is not None
        ends = [2 * sized.span, *(start + math.floor(scale * width) for start, scale in sized.scaled)]
        starts = [start for start, _ in sized.scaled]
        assert all(end <= start for end, start in zip(ends[:-1], starts, strict=True))
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
    assert perspective._of_scene(noise(), box(100, 110, 150, 150)) is None


def test_what_runs_to_a_point_goes_on_toward_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hole over many wedges, each of another color: hardly any shift continues two of them."""
    image, hole = rays(30), box(95, 90, 150, 170)

    def error() -> float:
        levels = [Level(torch.where(hole, 0.5, image)[None], hole[None, None])]
        return float((Exemplar(levels).render(0)[0] - image).abs()[:, hole].mean())

    straight = error()
    monkeypatch.setattr(structure, "offsets_in_perspective", lambda palette: (palette, torch.zeros(0, 2).long()))
    assert straight < 0.5 * error()
    assert straight < 0.03


@pytest.mark.parametrize("scene", [rays, noise])
def test_what_lies_under_the_hole_tells_nothing_of_where_it_runs(scene: Callable[[], Tensor]) -> None:
    image, hole = scene(), box(95, 90, 150, 170)
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


def test_the_judge_prefers_what_the_rim_suggests() -> None:
    """Stripes that a hole interrupts: copied in step, out of step, and from where all is darker."""
    rows = torch.arange(HEIGHT)[:, None].expand(-1, WIDTH)
    shade = torch.where(torch.arange(WIDTH) < WIDTH // 2, 0.4, 0.9)
    image = (shade * (0.5 + 0.5 * (rows % 12 < 6)) + 0.02 * noise()).clamp(0, 1)
    hole = box(80, 170, 110, 210)
    palette, nodes = palette_of(image, hole, Views()), Nodes(hole)
    search = PatchSearch(Scene(palette, texture_of(image, hole)), torch.Generator().manual_seed(0))
    judge = Judge(search, palette, hole, nodes)
    in_step, out_of_step, darker = (
        float(judge.faults(torch.tensor(shift).repeat(len(nodes), 1))) for shift in ([36, 0], [42, 0], [36, -130])
    )
    assert in_step < 0.7 * out_of_step
    assert in_step < 0.7 * darker
