"""Masks drawn by hand, and pictures for screens."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from refiner.images.drawing import Area, Stamp, Stroke, box_of, drawn, mask_file
from refiner.images.picture import Picture
from refiner.images.screen import as_jpeg, as_png, part_for_screen, part_of_mask, resized, values_for_screen

SIZE = (60, 80)


def disk(x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    return np.hypot(columns - x, rows - y) <= radius


@settings(deadline=None)
@given(st.floats(0, 80), st.floats(0, 60), st.floats(3, 40))
def test_a_dot_is_a_disk(x, y, size) -> None:
    made = drawn([Stroke(((x, y),), size)], SIZE)
    assert not (made & ~disk(x, y, size / 2 + 2)).any()  # Pillow rounds to whole pixels, outwards and diagonally
    assert not (disk(x, y, size / 2 - 2) & ~made).any()


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.tuples(st.floats(-50, 130), st.floats(-50, 110)), min_size=2, max_size=6), st.floats(2, 30))
def test_a_stroke_is_as_wide_as_its_brush(points, size) -> None:
    made = drawn([Stroke(tuple(points), size)], SIZE)
    along = [
        (x0 + (x1 - x0) * t, y0 + (y1 - y0) * t)
        for (x0, y0), (x1, y1) in itertools.pairwise(points)
        for t in np.linspace(0, 1, 100)
    ]
    near = np.min([np.hypot(*(np.mgrid[: SIZE[0], : SIZE[1]] + 0.5 - [[[y]], [[x]]])) for x, y in along], axis=0)
    assert not (made & (near > size / 2 + 2.5)).any()
    assert not ((near < size / 2 - 2.5) & ~made).any()


def test_marks_are_drawn_in_order() -> None:
    area = Area(((10, 10), (50, 10), (50, 40), (10, 40)))
    rubbed = Stroke(((30, 0), (30, 60)), 10, erase=True)
    mask = np.zeros(SIZE, dtype=bool)
    mask[20:25, 28:33] = True
    made = drawn([area, rubbed, Stamp(mask)], SIZE)
    assert made[15, 15]
    assert not made[15, 30]
    assert made[22, 30]
    assert not drawn([area, rubbed, Stamp(mask), Stamp(np.ones(SIZE, dtype=bool), erase=True)], SIZE).any()
    assert drawn([area], SIZE).sum() == pytest.approx(40 * 30, rel=0.06)


def test_two_corners_are_no_area() -> None:
    assert not drawn([Area(((1, 1), (50, 50)))], SIZE).any()


def test_boxes_and_files_of_masks() -> None:
    mask = np.zeros(SIZE, dtype=bool)
    assert box_of(mask) is None
    mask[5:9, 70:] = True
    assert box_of(mask) == (70, 5, 80, 9)
    assert box_of(mask, 7) == (63, 0, 80, 16)
    with Image.open(io.BytesIO(mask_file(mask))) as image:
        assert (image.mode, image.size) == ("L", (80, 60))
        assert np.array_equal(np.asarray(image) == 255, mask)


def test_profiles_are_turned_into_srgb() -> None:
    """XYZ colors as sRGB: by their profile, gray is gray and white is white."""
    values = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    plain = values_for_screen(values, None)
    assert np.array_equal(plain, values)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.abs(values_for_screen(values, profile).astype(int) - values).max() <= 1
    assert np.array_equal(values_for_screen(values, b"broken"), values)
    assert np.array_equal(values_for_screen(values.astype(np.uint16) * 257, None), values)
    gray = values_for_screen(values[..., :1], None)
    assert np.array_equal(gray, values[..., :1].repeat(3, axis=2))
    ink = values_for_screen(np.zeros((2, 2, 4), np.uint8), None)
    assert (ink == 255).all()


def test_parts_are_parts_of_the_whole() -> None:
    values = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    alpha = np.random.default_rng(2).integers(0, 256, (40, 50), dtype=np.uint8)
    picture = Picture(values, alpha)
    whole = part_for_screen(picture, (0, 0, 50, 40))
    assert np.array_equal(part_for_screen(picture, (7, 11, 33, 29)), whole[11:29, 7:33])
    assert np.array_equal(whole[alpha == 255], values[alpha == 255])
    assert set(np.unique(whole[alpha == 0])) <= {216, 255}


def test_scaling_down() -> None:
    pixels = np.full((100, 300, 3), 77, np.uint8)
    assert resized(pixels, 300) is pixels
    assert resized(pixels, 30).shape == (10, 30, 3)
    assert (resized(pixels, 200) == 77).all()
    assert as_jpeg(pixels)[:2] == b"\xff\xd8"
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:20, 15:45] = True
    covered = part_of_mask(mask, (0, 0, 60, 40), (4, 6))
    assert np.abs(covered[1].astype(int) - [0, 127.5, 255, 255, 127.5, 0]).max() < 1
    assert np.array_equal(part_of_mask(mask, (0, 0, 60, 40), (40, 60)) > 0, mask)
    with Image.open(io.BytesIO(as_png(pixels[:40, :60], mask))) as image:
        assert image.mode == "RGBA"
        assert np.array_equal(np.asarray(image)[..., 3] > 0, mask)
