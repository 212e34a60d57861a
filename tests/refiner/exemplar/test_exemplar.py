from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from kornia.filters import gaussian_blur2d
from scipy import ndimage
from torch.nn import functional

from refiner import InputError
from refiner.engine.pyramid import build_pyramid
from refiner.evaluation.no_reference import looks, seams
from refiner.exemplar import Exemplar, Level, level_count
from refiner.exemplar.energy import Energy
from refiner.exemplar.expansion import Labeling, expand, min_cut
from refiner.exemplar.laplace import harmonic_fill, solve
from refiner.exemplar.nodes import Nodes, picked, same, sum_near
from refiner.exemplar.palette import Palette
from refiner.exemplar.views import Views
from refiner.regions import dilated


def texture(height: int, width: int, seed: int = 0, period: int = 24) -> torch.Tensor:
    """A tile repeated, (1,3,H,W): every hole has its exact copy elsewhere."""
    tile = torch.rand(1, 3, period, period, generator=torch.Generator().manual_seed(seed))
    rows, columns = -(-height // period), -(-width // period)
    return tile.repeat(1, 1, rows, columns)[..., :height, :width].contiguous()


def hole_of(height: int, width: int, *boxes: tuple[int, int, int, int]) -> torch.Tensor:
    hole = torch.zeros(1, 1, height, width, dtype=torch.bool)
    for top, left, bottom, right in boxes:
        hole[..., top:bottom, left:right] = True
    return hole


def filled(image: torch.Tensor, hole: torch.Tensor, **options) -> torch.Tensor:
    count = level_count(image.shape[2], image.shape[3], int(hole.sum()))
    levels = [Level(*level) for level in build_pyramid(image, hole, count)]
    return Exemplar(levels, **options).render(count - 1)


def test_a_repeated_tile_is_continued_exactly() -> None:
    image, hole = texture(120, 144), hole_of(120, 144, (40, 50, 70, 95))
    result = filled(torch.where(hole, 0.5, image), hole)
    assert (result - image).abs().max() < 1e-4


@pytest.mark.parametrize("size", [(130, 150), (131, 151), (401, 523)])
def test_what_the_photo_has_mirrored_is_copied_mirrored(size) -> None:
    height, width = size
    coarse = torch.rand(1, 3, height // 6, width // 12, generator=torch.Generator().manual_seed(2))
    left = functional.interpolate(coarse, size=(height, width // 2), mode="bicubic").clamp(0, 1)
    middle = left[..., -1:] if width % 2 else left[..., :0]
    image = torch.cat([left, middle, left.flip(3)], dim=3)
    hole = hole_of(height, width, (height // 3, 7 * width // 10, height // 2, 9 * width // 10))
    result = filled(torch.where(hole, 0, image), hole)
    assert (result - image).abs()[hole.expand_as(image)].mean() < 0.01


def test_a_palette_tells_where_its_columns_come_from() -> None:
    image = torch.rand(3, 4, 5)
    hole = torch.zeros(4, 5, dtype=torch.bool)
    hole[1, 1] = True
    palette = Palette(image, hole, ~hole, Views(span=6, mirrored=True))
    columns = torch.arange(12)
    assert palette.mirrored(columns).tolist() == [False] * 6 + [True] * 6
    shown = palette.photo_columns(columns)
    for column in [*range(5), *range(7, 12)]:
        at = torch.arange(4) * palette.width + column
        assert torch.equal(palette.colors(at), image[:, :, shown[column]].T)
        assert torch.equal(palette.spread(image)[:, :, column], image[:, :, shown[column]])
        assert torch.equal(palette.spread(~hole)[:, column], ~hole[:, shown[column]])
    assert (shown[5:7] >= 5).all()
    _, between = palette.copied(torch.tensor([[3, 0]]).expand(2, 2), torch.tensor([[0, 5], [0, 6]]))
    assert not between.any()
    at, may = palette.copied(torch.tensor([[1, 1], [1, 1], [0, 4]]), torch.tensor([[0, 9], [0, 7], [-1, 0]]))
    assert may.tolist() == [False, True, False]  # the hole's mirror image, a pixel far enough away, above the photo
    assert torch.equal(palette.colors(at)[1], image[:, 1, 3])
    _, near = palette.copied(torch.tensor([[1, 1]]), torch.tensor([[0, 10]]))
    assert not near.any()  # a piece and its mirror image side by side are seen


def test_no_piece_is_reflected_at_the_photos_edge() -> None:
    """The hole would be filled best by the strip at the right edge and, in one piece with it, its mirror image."""
    coarse = torch.rand(1, 3, 22, 30, generator=torch.Generator().manual_seed(3))
    smooth = functional.interpolate(coarse, size=(132, 180), mode="bicubic").clamp(0, 1)
    start, edge = smooth[..., :120], smooth[..., 120:]
    image = torch.cat([start, edge, edge.flip(3), start.flip(2), edge], dim=3)
    hole = hole_of(132, image.shape[3], (40, 165, 80, 195))
    exemplar = Exemplar([Level(torch.where(hole, 0, image), hole)])
    shifts = exemplar.shifts(0)
    assert shifts is not None
    width = image.shape[3]
    within = torch.arange(width) + shifts[1] < width
    same = (shifts[:, :, 1:] == shifts[:, :, :-1]).all(dim=0) & hole[0, 0, :, 1:] & hole[0, 0, :, :-1]
    assert same.any()
    assert not (same & (within[:, 1:] != within[:, :-1])).any()


def test_large_pictures_are_continued_through_all_levels() -> None:
    image = functional.interpolate(texture(260, 300, period=20), scale_factor=2, mode="bilinear").clamp(0, 1)
    hole = hole_of(520, 600, (200, 220, 300, 340))
    result = filled(torch.where(hole, 0, image), hole)
    assert (result - image).abs()[hole.expand_as(image)].mean() < 0.02


@examples(max_examples=15, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    top=st.integers(0, 89),
    left=st.integers(0, 89),
    bottom=st.integers(1, 90),
    right=st.integers(1, 90),
)
def test_known_pixels_are_exact_and_what_lies_under_the_hole_does_not_matter(
    height, width, top, left, bottom, right
) -> None:
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))
    hole = hole_of(height, width, (top, left, bottom, right))
    if hole.all():
        hole[..., 0, 0] = False
    if hole.all():
        return
    result = filled(image, hole)
    known = (~hole).expand_as(image)
    assert torch.equal(result[known], image[known])
    assert ((result >= 0) & (result <= 1)).all()
    assert torch.equal(filled(torch.where(hole, 0.7, image), hole), result)


@pytest.mark.parametrize(
    "boxes",
    [
        [(0, 0, 40, 40)],
        [(60, 0, 100, 130)],
        [(10, 10, 30, 30), (50, 80, 80, 110)],
        [(5, 5, 95, 110)],  # most of the picture
    ],
)
def test_holes_anywhere_and_of_any_size(boxes) -> None:
    image, hole = texture(100, 130), hole_of(100, 130, *boxes)
    result = filled(torch.where(hole, 0, image), hole)
    assert torch.equal(result[..., ~hole[0, 0]], image[..., ~hole[0, 0]])
    # All of it is the photo's: no gray, no black.
    assert abs(result[hole.expand_as(result)].mean() - image.mean()) < 0.1


def test_a_constant_picture_stays_constant() -> None:
    image, hole = torch.full((1, 3, 64, 80), 0.3), hole_of(64, 80, (20, 20, 50, 60))
    torch.testing.assert_close(filled(torch.where(hole, 0, image), hole), image, atol=1e-3, rtol=0)


def test_no_hole_gives_the_picture() -> None:
    image = texture(40, 50)
    assert torch.equal(filled(image, hole_of(40, 50)), image)


def test_the_seed_decides_and_nothing_else() -> None:
    image = torch.rand(1, 3, 90, 90, generator=torch.Generator().manual_seed(3))
    hole = hole_of(90, 90, (30, 30, 60, 60))
    first = filled(image, hole, seed=5)
    torch.manual_seed(99)
    assert torch.equal(filled(image, hole, seed=5), first)


def test_what_is_to_be_avoided_is_not_copied() -> None:
    image = texture(100, 140)
    image[..., 20:60, 90:130] = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    hole = hole_of(100, 140, (20, 30, 60, 75))
    avoid = hole_of(100, 140, (18, 88, 62, 132))
    result = filled(image, hole, avoid=avoid)
    red = (result[:, 0] > 0.95) & (result[:, 1] < 0.05) & (result[:, 2] < 0.05)
    assert not (red & hole[:, 0]).any()
    with pytest.raises(InputError, match="leaves nothing of the photo to copy from"):
        filled(image, hole, avoid=torch.ones_like(hole))


def test_a_fill_to_follow_says_what_belongs_where() -> None:
    # Left half red stripes, right half blue ones; the hole lies in the middle, and the guide wants it blue.
    stripes = (torch.arange(120) % 6 < 3).float().view(1, 1, -1, 1).expand(1, 1, 120, 160) * 0.4 + 0.4
    image = torch.zeros(1, 3, 120, 160)
    image[:, 0, :, :80] = stripes[:, 0, :, :80]
    image[:, 2, :, 80:] = stripes[:, 0, :, 80:]
    hole = hole_of(120, 160, (40, 50, 80, 110))
    for channel in (0, 2):
        guide = torch.zeros(1, 3, 30, 40)
        guide[:, channel] = 0.6
        inside = filled(image, hole, follow=guide)[..., 50:70, 65:95]
        assert inside[:, channel].mean() > 5 * inside[:, 2 - channel].mean()


def test_the_search_can_be_ended_and_broken_off() -> None:
    """Ended after two of its moves, it has copied all of the hole from where it may; broken off, nothing is left."""
    image, hole = texture(100, 130), hole_of(100, 130, (30, 40, 70, 90))
    shares = []

    def enough(share: float) -> bool:
        shares.append(share)
        return share > 0.35

    exemplar = Exemplar([Level(image, hole)], on_step=enough)
    result = exemplar.render(0)
    assert shares == sorted(shares)
    assert sum(0.35 < share < 0.8 for share in shares) < 10, "of 90 moves and a search"
    rows, columns = hole[0, 0].nonzero().T
    shifts = exemplar.shifts(0)[:, rows, columns]
    half = exemplar._chosen.on_cpu.palette
    _, may = half.copied(torch.stack([rows, columns], dim=1), shifts.T)
    assert may.all()
    assert (result - image)[hole.expand_as(image)].abs().mean() < (0.5 - image)[hole.expand_as(image)].abs().mean()
    assert torch.equal(result[..., ~hole[0, 0]], image[..., ~hole[0, 0]])

    def fail(_share: float) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        filled(image, hole, on_step=fail)


def test_exposure_is_followed_without_a_seam() -> None:
    # One texture, brighter to the right: plain copies from elsewhere would be off by their distance.
    ramp = torch.linspace(0.7, 1.0, 180).view(1, 1, 1, -1)
    image = texture(120, 180) * ramp
    hole = hole_of(120, 180, (40, 60, 80, 120))
    count = level_count(120, 180, int(hole.sum()))
    levels = [Level(*level) for level in build_pyramid(torch.where(hole, 0, image), hole, count)]
    exemplar = Exemplar(levels)
    result = exemplar.render(count - 1)
    seen = looks(result, hole)
    assert 0.8 < float(seen.rim) < 1.15
    assert float(seams(result, exemplar.shifts(count - 1)[None], hole)) < 1.2
    assert 0.85 < float(seen.sharpness) < 1.15


# The parts


def test_on_texture_without_order_the_rim_does_not_show() -> None:
    random = torch.Generator().manual_seed(4)
    image = gaussian_blur2d(torch.rand(1, 3, 300, 360, generator=random), (7, 7), (1.2, 1.2))
    hole = hole_of(300, 360, (90, 120, 190, 250))
    measured = looks(filled(torch.where(hole, 0, image), hole), hole)
    assert 0.85 < float(measured.rim) < 1.15
    assert 0.85 < float(measured.sharpness) < 1.15


def test_cuts_are_the_best_of_all() -> None:
    random = torch.Generator().manual_seed(0)
    for _ in range(20):
        costs = torch.randn(6, generator=random)
        pairs = torch.tensor([[0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [0, 5], [1, 4]])
        weights = torch.rand(len(pairs), generator=random)
        found = torch.from_numpy(
            min_cut(costs.numpy(), (pairs[:, 0].numpy(), pairs[:, 1].numpy()), weights.numpy())
        ).float()

        def cost(x, costs=costs, pairs=pairs, weights=weights):
            return (costs * x).sum() + (weights * (1 - x[pairs[:, 0]]) * x[pairs[:, 1]]).sum()

        choices = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 6)
        assert float(cost(found)) <= min(float(cost(x)) for x in choices) + 1e-3


def test_an_expansion_never_raises_the_energy() -> None:
    image = torch.rand(3, 30, 40, generator=torch.Generator().manual_seed(2))
    hole = hole_of(30, 40, (10, 12, 20, 24))[0, 0]
    energy = Energy(Palette(image, hole, ~hole), hole, Nodes(hole))
    shifts = torch.tensor([0, 14]).expand(len(energy), 2).clone()
    labeling = Labeling(shifts, energy.of_all(shifts[0]))
    everyone = torch.arange(len(energy))
    torch.testing.assert_close(energy.of(everyone, shifts), labeling.costs)

    def total() -> float:
        one, other = (labeling.shifts[end] for end in energy.edges)
        return float(labeling.costs.sum() + energy.seams(energy.edges, one, other[None]).sum())

    gains = []
    random = torch.Generator().manual_seed(1)
    several = torch.tensor([[12, 0], [-11, 3], [0, -13], [9, 9]])
    for proposed in (*(shift.expand(len(energy), 2) for shift in several), several[
        torch.randint(4, (len(energy),), generator=random)
    ]):  # fmt: skip
        before = total()
        gains.append(expand(energy, labeling, everyone, proposed, energy.of(everyone, proposed)))
        assert total() == pytest.approx(before - gains[-1], abs=1e-2)
        torch.testing.assert_close(energy.of(everyone, labeling.shifts), labeling.costs)
    assert min(gains) >= 0
    assert max(gains) > 0


def test_laplaces_equation_is_solved() -> None:
    # A plane is harmonic: it is continued as it is.
    y, x = torch.meshgrid(torch.linspace(0, 0.5, 40), torch.linspace(0, 0.4, 50), indexing="ij")
    image = torch.stack([y + x, y, x])
    hole = hole_of(40, 50, (8, 9, 30, 41))[0, 0]
    torch.testing.assert_close(harmonic_fill(torch.where(hole, 0, image), hole), image, atol=1e-4, rtol=0)
    nodes = Nodes(hole)
    b = torch.rand(len(nodes), 2)
    solved = solve(nodes, b, steps=500, screening=0.1)
    assert (4.1 * solved - sum_near(nodes.near, solved) - b).abs().max() < 1e-4
    held = solve(nodes, b, steps=500, screening=0.1, hold=3)
    beside = (nodes.near == len(nodes)).sum(dim=1, keepdim=True)
    assert ((4.1 + 2 * beside) * held - sum_near(nodes.near, held) - b).abs().max() < 1e-4
    each = torch.rand(len(nodes), 1)
    left = (4 + each) * (x := solve(nodes, b, steps=500, screening=each)) - sum_near(nodes.near, x) - b
    assert left.abs().max() < 1e-4


def test_a_solver_of_few_steps_works_where_they_come_to_alone() -> None:
    """The same as over all nodes, which a start from 0 makes it go over."""
    nodes = Nodes(hole_of(60, 200, (5, 5, 55, 195))[0, 0])
    b = torch.zeros(len(nodes), 2)
    b[nodes.places[:, 1] == 30] = 1.0
    whole = solve(nodes, b, torch.zeros_like(b), steps=12, screening=0.1, hold=2)
    torch.testing.assert_close(solve(nodes, b, steps=12, screening=0.1, hold=2), whole)
    assert whole.any(dim=1).sum() < 0.2 * len(nodes)


def test_nodes_know_their_neighbors_parts_and_smaller_levels() -> None:
    hole = torch.rand(23, 31, generator=torch.Generator().manual_seed(5)) > 0.4
    nodes = Nodes(hole)
    assert torch.equal(nodes.places, hole.nonzero())
    x = torch.rand(len(nodes), 2)
    spread = torch.zeros(25, 33, 2)
    spread[1:-1, 1:-1][hole] = x
    around = spread[1:-1, :-2] + spread[1:-1, 2:] + spread[:-2, 1:-1] + spread[2:, 1:-1]
    torch.testing.assert_close(sum_near(nodes.near, x), around[hole])
    labels, count = ndimage.label(hole.numpy())
    part, parts = nodes.parts()
    assert parts == count
    assert len(torch.unique(torch.stack([part, torch.from_numpy(labels)[hole]]), dim=1).T) == count
    small = Nodes(torch.ones(11, 15, dtype=torch.bool))
    covered = small.places[nodes.coarser(small)]
    assert ((covered - nodes.places * torch.tensor([11 / 23, 15 / 31])).abs() <= 1).all()


def test_parts_of_some_nodes_are_those_without_the_others() -> None:
    random = torch.Generator().manual_seed(6)
    nodes = Nodes(torch.rand(23, 31, generator=random) > 0.2)
    some = (torch.rand(len(nodes), generator=random) > 0.4).nonzero()[:, 0]
    where = torch.zeros(nodes.size, dtype=torch.bool)
    where.flatten()[nodes.at[some]] = True
    labels, count = ndimage.label(where.numpy())
    part, parts = nodes.parts_of(some)
    assert parts == count > 1
    assert torch.equal(part, torch.from_numpy(labels)[where] - 1)


@pytest.mark.parametrize("of", ["rows", "columns", "a part", "three", "floats"])
def test_rows_are_picked_however_they_lie_in_memory(of: str) -> None:
    random = torch.Generator().manual_seed(7)
    wide = torch.randint(-9, 9, (40, 3), generator=random)
    x = {
        "rows": wide[:, :2].contiguous(),
        "columns": wide.T.contiguous()[:2].T,
        "a part": wide.flatten()[1:81].view(40, 2),
        "three": wide,
        "floats": wide[:, :2].float(),
    }[of]
    for index in (torch.randint(40, (7,), generator=random), torch.randint(40, (4, 5), generator=random), wide[:0, 0]):
        assert torch.equal(picked(x, index), x[index])
    assert torch.equal(same(x[:20], x[20:]), (x[:20, :2] == x[20:, :2]).all(dim=1))


def test_what_a_mask_cuts_through_leaves_no_cloud_in_the_sky() -> None:
    height, width = 480, 640
    rows, columns = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    rise = 0.1 * rows / height
    noise = 0.004 * torch.randn(1, height, width, generator=torch.Generator().manual_seed(0))
    sky = torch.stack([0.55 + rise, 0.65 + rise, 0.85 + 0.5 * rise]) + noise
    hole = ((rows - 200) / 70) ** 2 + ((columns - 320) / 110) ** 2 < 1
    neck = ((columns - 330).abs() < 14) & (rows > 200)
    image = torch.where(neck | hole, 0.1, sky)
    pyramid = build_pyramid(image[None], hole[None, None], level_count(height, width, int(hole.sum())))
    filled = Exemplar([Level(*level) for level in pyramid]).render(len(pyramid) - 1)[0]
    error = (filled - sky).abs().mean(dim=0)
    beyond = hole & ~dilated(filled.mean(dim=0) < 0.4, 12)  # what is left of the neck, and the few pixels it fades in
    assert beyond.sum() > 0.8 * hole.sum()
    assert (error[beyond] > 0.03).float().mean() < 0.005
