from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch.nn import functional

from refiner.engine.pyramid import halve_hole, size_within
from refiner.regions import HoleBoxes, Window, cell_side, dilated, regions_of

SPECKS = st.lists(st.tuples(st.integers(0, 199), st.integers(0, 169), st.integers(1, 60)), min_size=1, max_size=8)


def specks(places, height: int = 200, width: int = 170) -> torch.Tensor:
    hole = torch.zeros(1, 1, height, width, dtype=torch.bool)
    for y, x, side in places:
        hole[..., y : y + side, x : x + side // 2 + 1] = True
    return hole


@examples(max_examples=40, deadline=None)
@given(SPECKS)
def test_regions_divide_the_hole_and_boxes_are_theirs(places) -> None:
    hole = specks(places)
    regions = regions_of(hole)
    whole = torch.zeros(200, 170, dtype=torch.int)
    for region in regions:
        region.window.of(whole).add_(region.mask)
        assert region.mask.any(dim=0)[[0, -1]].all()
        assert region.mask.any(dim=1)[[0, -1]].all()
        assert torch.equal(region.within(Window(0, 0, 200, 170)).sum(), region.mask.sum())
    assert torch.equal(whole, hole[0, 0].int()), "each pixel is in one region"
    boxes = HoleBoxes.of(hole[0, 0].numpy())
    assert boxes.pixels == hole.sum()
    assert sorted(map(str, boxes.boxes)) == sorted(str(region.window) for region in regions)


def test_what_lies_in_neighboring_cells_is_one_region() -> None:
    assert [cell_side(size) for size in ((2000, 3000), (160, 900), (7, 9))] == [32, 10, 1]
    cell = cell_side((200, 170))
    near, far = specks([(0, 0, 4), (cell, cell, 4)]), specks([(0, 0, 4), (2 * cell, 0, 4)])
    assert len(regions_of(near)) == 1
    assert len(regions_of(far)) == 2
    assert regions_of(torch.zeros(1, 1, 9, 9, dtype=torch.bool)) == []
    nothing = HoleBoxes.of(np.zeros((9, 9), bool))
    assert (nothing.pixels, nothing.boxes, nothing.halved().boxes) == (0, (), ())


@examples(max_examples=40, deadline=None)
@given(SPECKS, st.sampled_from([200, 199, 64, 33]), st.sampled_from([170, 169, 35]))
def test_halved_boxes_hold_the_halved_hole_and_hardly_more(places, height, width) -> None:
    hole = specks([(y % height, x % width, side) for y, x, side in places], height, width)
    boxes = HoleBoxes.of(hole[0, 0].numpy())
    for _ in range(3):
        hole, boxes = halve_hole(hole), boxes.halved()
        assert boxes.size == hole.shape[2:]
        covered, grown = torch.zeros_like(hole), dilated(hole, 1)
        for window in boxes.boxes:
            window.of(covered).fill_(True)
        assert (covered | ~hole).all()
        for window in boxes.boxes:
            edge = window.of(grown)[0, 0]
            assert edge[0].any()
            assert edge[-1].any()
            assert edge[:, 0].any()
            assert edge[:, -1].any()


def test_boxes_of_a_picture_that_is_shrunk() -> None:
    hole = specks([(40, 50, 30), (150, 20, 9)])
    size = size_within((200, 170), 9000)
    assert size[0] * size[1] <= 9000
    shrunk = HoleBoxes.of(hole[0, 0].numpy()).resized(size)
    truth = functional.interpolate(hole.float(), size=size, mode="bilinear") > 0
    covered = torch.zeros_like(truth)
    for window in shrunk.boxes:
        window.of(covered).fill_(True)
    assert (covered | ~truth).all()
    assert covered.sum() < 1.7 * truth.sum()
    assert shrunk.resized(size) is shrunk


@pytest.mark.parametrize("pixels", [0, 1, 5, 12, 40])
def test_growing_is_by_squares(pixels) -> None:
    mask = torch.rand(2, 1, 40, 30, generator=torch.Generator().manual_seed(0)) > 0.98
    side = 2 * pixels + 1
    expected = functional.conv2d(mask.float(), torch.ones(1, 1, side, side), padding=pixels) > 0
    assert torch.equal(dilated(mask, pixels), expected)
    assert torch.equal(dilated(mask[0, 0], pixels), expected[0, 0])
