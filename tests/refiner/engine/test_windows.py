from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refiner import Settings, StopRefinement, load_model, refine
from refiner.engine import plan
from refiner.engine.windows import find_windows
from refiner.regions import HoleBoxes, Window, whole


def holes(height: int, width: int, *boxes: tuple[int, int, int, int]) -> torch.Tensor:
    hole = torch.zeros(1, 1, height, width, dtype=torch.bool)
    for top, left, bottom, right in boxes:
        hole[..., top:bottom, left:right] = True
    return hole


def windows_of(hole: torch.Tensor, **options) -> list[Window]:
    return find_windows(HoleBoxes.of(hole[0, 0].numpy()), **options)


def test_a_window_surrounds_its_hole_by_its_share() -> None:
    (window,) = windows_of(holes(1000, 1000, (400, 480, 608, 880)), context=0.25, min_side=64, multiple=8)
    assert window == Window(344, 424, 664, 936)  # 52 px, a quarter of 208, rounded outward to multiples of 8
    (least,) = windows_of(holes(1000, 1000, (400, 480, 402, 482)), context=0.25, min_side=512, multiple=8)
    assert least == Window(272, 352, 536, 616)  # a quarter of 512


def test_windows_stay_inside_and_in_step() -> None:
    (window,) = windows_of(holes(101, 203, (90, 0, 101, 9)), context=0.5, min_side=32, multiple=5)
    assert window == Window(70, 0, 102, 30)  # multiples of 10, or the even edge


@pytest.mark.parametrize(
    ("height", "top", "bottom", "window"),
    [
        (1600, 400, 600, (288, 720)),  # 54 steps of 8 pixels, not 53
        (1600, 0, 316, (0, 432)),
        (1600, 1290, 1600, (1168, 1600)),  # one more before, as there is none after
        (424, 100, 350, (0, 424)),  # nor here
        (1600, 100, 300, (0, 408)),  # 54 for 51 would be too many
    ],
)
def test_a_side_that_is_slow_to_transform_is_a_little_longer(height, top, bottom, window) -> None:
    (found,) = windows_of(holes(height, 800, (top, 380, bottom, 420)), context=0.25, min_side=432, multiple=8)
    assert (found.top, found.bottom) == window


def test_near_holes_share_a_window_and_far_ones_do_not() -> None:
    near = holes(600, 900, (100, 100, 120, 120), (100, 160, 120, 180))
    assert len(windows_of(near, context=0.25, min_side=128, multiple=8)) == 1
    far = holes(600, 900, (100, 100, 120, 120), (400, 700, 420, 720))
    assert len(windows_of(far, context=0.25, min_side=128, multiple=8)) == 2
    assert windows_of(holes(50, 50), context=0.25, min_side=128, multiple=8) == []


def test_merging_goes_on_until_nothing_overlaps() -> None:
    """A tall hole and a wide one, each away from the third until the two are joined."""
    three = holes(900, 900, (0, 0, 600, 8), (560, 30, 600, 800), (20, 700, 60, 760))
    windows = windows_of(three, context=0.05, min_side=8, multiple=8)
    assert windows == [Window(0, 0, 640, 840)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 350)] * 4), min_size=1, max_size=6), st.sampled_from([1, 8, 12]))
def test_every_hole_is_in_one_window_with_real_pixels_around(boxes, multiple) -> None:
    hole = holes(301, 333, *((t, left, t + 1 + h // 6, left + 1 + w // 6) for t, left, h, w in boxes))
    windows = windows_of(hole, context=0.25, min_side=64, multiple=multiple)
    count = torch.zeros(301, 333)
    for window in windows:
        window.of(count).add_(1)
        for start in (window.top, window.left):
            assert start % multiple == start % 2 == 0
        rim = torch.ones_like(window.of(hole))
        rim[..., (window.top > 0) : window.size[0] - (window.bottom < 301), :] = False
        assert not (window.of(hole) & rim).any()  # no hole at a window's own edge
    assert count.max() <= 1
    assert (count[hole[0, 0]] == 1).all()


def test_windows_of_a_scale_match_those_of_the_coarser_scale() -> None:
    picture, halved = torch.arange(101 * 67).reshape(1, 1, 101, 67), torch.zeros(1, 1, 50, 33)
    window = Window(40, 24, 101, 67)
    assert window.halved().of(halved).shape[-2:] == (window.size[0] // 2, window.size[1] // 2)
    assert torch.equal(whole((101, 67)).of(picture), picture)


@pytest.fixture(scope="module")
def small():
    return load_model("lama-small")


@pytest.fixture
def near(monkeypatch) -> None:
    """Windows with little around their holes, in pictures much smaller than photos."""
    monkeypatch.setattr(plan, "CONTEXT", 0.1)


@pytest.fixture
def two_holes() -> tuple[torch.Tensor, torch.Tensor]:
    y, x = torch.meshgrid(torch.linspace(0, 1, 300), torch.linspace(0, 1, 404), indexing="ij")
    image = torch.stack([x, y, 0.5 + 0.4 * torch.sin(9 * x + 20 * y)])[None]
    return image, holes(300, 404, (40, 40, 80, 80), (220, 320, 250, 350)).float()


def test_refining_in_windows(small, two_holes, near) -> None:
    image, mask = two_holes
    seen = []
    settings = Settings(detail="features", min_side=75, steps=3, precision="float32")
    result = refine(small, image, mask, settings, progress=seen.append)
    full = result.scales[-1]
    assert len(full.windows) == 2
    assert len(full.losses) == 3
    assert full.loss_after < full.loss_before
    assert [(p.window, p.windows, p.step) for p in seen[-6:]] == [(w, 2, s) for w in (1, 2) for s in (1, 2, 3)]
    known = (mask == 0).expand_as(image)
    assert torch.equal(result.image[known], image[known])


@pytest.mark.parametrize("size", [(299, 403), (300, 403), (299, 404)])
def test_windows_of_odd_pictures_come_back_whole(small, two_holes, size, near) -> None:
    image, mask = (part[..., : size[0], : size[1]] for part in two_holes)
    result = refine(small, image, mask, Settings(detail="features", min_side=75, steps=2, precision="float32"))
    half = size[0] // 2, size[1] // 2
    assert [scale.size for scale in result.scales[::-1]] == [size, half, (half[0] // 2, half[1] // 2)]
    assert len(result.scales[-1].windows) == 2
    known = (mask == 0).expand_as(image)
    assert torch.equal(result.image[known], image[known])


def test_a_window_that_is_the_picture_is_no_window(small, two_holes, monkeypatch) -> None:
    monkeypatch.setattr(plan, "CONTEXT", 9)
    image, mask = two_holes
    auto = refine(small, image, mask, Settings(detail="features", min_side=150, steps=2, precision="float32"))
    off = refine(
        small, image, mask, Settings(detail="features", min_side=150, steps=2, windows="off", precision="float32")
    )
    assert torch.equal(auto.image, off.image)


def test_stopping_between_windows_leaves_no_gap(small, two_holes, near) -> None:
    image, mask = two_holes

    def stop(progress) -> None:
        if progress.scale == 3 and progress.window == 1:
            raise StopRefinement

    result = refine(small, image, mask, Settings(detail="features", min_side=75, steps=3), progress=stop)
    assert result.stopped
    assert len(result.scales[-1].windows) == 1
    second = result.image[..., 220:250, 320:350]
    assert (second.std(dim=(2, 3)) > 0).all()
    assert (second - image[..., 220:250, 320:350]).abs().mean() < 0.5
