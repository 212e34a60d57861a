import dataclasses
import hashlib

import numpy as np
import pytest
from scipy import ndimage

from refiner.errors import SettingsError
from refiner.evaluation.random_masks import Boxes, MaskKind, Strokes, load_mask_kind

KINDS = ["thin", "medium", "thick"]


@pytest.mark.parametrize("name", KINDS)
def test_the_same_seed_draws_the_same_hole(name):
    kind = load_mask_kind(name)
    first, second, other = (kind.draw(100, 140, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert first.shape == (100, 140)
    assert set(np.unique(first)) == {0, 255}
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_holes_stay_as_they_are_from_version_to_version():
    digest = hashlib.sha256()
    for name in KINDS:
        digest.update(load_mask_kind(name).draw(128, 128, np.random.default_rng(0)).tobytes())
    assert digest.hexdigest() == "52ab774e3a2908ef7909b01d53b1e8197fec1b16b2e6fb56544e4254644553af"


@pytest.mark.parametrize("name", KINDS)
def test_no_hole_is_empty_or_covers_more_than_half(name):
    kind = load_mask_kind(name)
    areas = [(kind.draw(64, 64, np.random.default_rng(seed)) > 0).mean() for seed in range(200)]
    assert min(areas) > 0
    assert max(areas) <= 0.5


def test_kinds_grow_from_thin_to_thick():
    def widest(name):
        """Mean over holes of the largest distance to the rim, by erosion."""
        depths = []
        for seed in range(20):
            hole = np.pad(load_mask_kind(name).draw(256, 256, np.random.default_rng(seed)) > 0, 1)
            depth = 0
            while hole.any():
                hole[1:-1, 1:-1] &= hole[:-2, 1:-1] & hole[2:, 1:-1] & hole[1:-1, :-2] & hole[1:-1, 2:]
                hole[0] = hole[-1] = hole[:, 0] = hole[:, -1] = False
                depth += 1
            depths.append(depth)
        return np.mean(depths)

    thin, medium, thick = (widest(name) for name in KINDS)
    assert thin < 0.6 * medium < 0.6 * thick


@pytest.mark.parametrize(
    ("name", "area", "parts", "radius"),
    [("thin", 0.301, 6.8, 24.6), ("medium", 0.265, 2.8, 66.5), ("thick", 0.256, 1.4, 109)],
)
def test_holes_are_like_those_of_the_public_generator(name, area, parts, radius):
    """Share of the picture, number of pieces and largest distance to the rim: means over 150 of its holes at 512 px."""
    holes = [load_mask_kind(name).draw(512, 512, np.random.default_rng(seed)) > 0 for seed in range(60)]
    assert np.mean([hole.mean() for hole in holes]) == pytest.approx(area, rel=0.25)
    assert np.mean([ndimage.label(hole)[1] for hole in holes]) == pytest.approx(parts, rel=0.25)
    assert np.mean([ndimage.distance_transform_edt(hole).max() for hole in holes]) == pytest.approx(radius, rel=0.25)


def test_stroke_width_and_length_are_those_asked_for():
    kind = MaskKind(512, Strokes(1, 1, max_width=1, max_length=1, max_angle=1), max_area=1)  # 5 wide, 10 long, straight
    for seed in range(20):
        hole = kind.draw(512, 512, np.random.default_rng(seed)) > 0
        rows, columns = np.nonzero(hole.any(1))[0], np.nonzero(hole.any(0))[0]
        assert len(columns) <= 7
        assert len(rows) <= 5 * 10 + 7


def test_lengths_scale_with_the_picture():
    kind = load_mask_kind("thick")
    small, large = (
        np.mean([(kind.draw(side, side, np.random.default_rng(seed)) > 0).mean() for seed in range(60)])
        for side in (128, 512)
    )
    assert small == pytest.approx(large, rel=0.25)


def test_boxes_keep_their_size_and_margin():
    kind = MaskKind(100, Strokes(1, 1, 5, 5), Boxes(1, 1, min_size=20, max_size=21, margin=7), boxes_weight=1e9)
    hole = kind.draw(100, 100, np.random.default_rng(0)) > 0
    rows, columns = np.nonzero(hole.any(1))[0], np.nonzero(hole.any(0))[0]
    assert (len(rows), len(columns), hole.sum()) == (20, 20, 400)
    assert rows[0] >= 7
    assert rows[-1] < 93


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("size", [(3, 200), (5, 5)])
def test_tiny_pictures_are_drawn(name, size):
    assert 0 < (load_mask_kind(name).draw(*size, np.random.default_rng(0)) > 0).mean() <= 0.5


def test_a_picture_of_one_pixel_is_refused_in_words():
    with pytest.raises(SettingsError, match="tries gave no hole"):
        load_mask_kind("thick").draw(1, 1, np.random.default_rng(0))


def test_unknown_kinds_and_bad_values_are_named(tmp_path):
    with pytest.raises(SettingsError, match="expected one of medium, thick, thin"):
        load_mask_kind("fat")
    (tmp_path / "k.yaml").write_text("size: 512\nstrokes: {min_times: 3, max_times: 1, max_width: 2, max_length: 2}")
    with pytest.raises(SettingsError, match=r"k\.yaml.*in this order"):
        load_mask_kind(str(tmp_path / "k.yaml"))
    medium = load_mask_kind("medium")
    for change, words in (
        ({"max_area": 2}, "max_area"),
        ({"boxes": None}, "boxes_weight"),
        ({"boxes_weight": 0.0}, "boxes_weight"),
        ({"boxes_weight": float("nan")}, "boxes_weight"),
        ({"boxes_weight": float("inf")}, "boxes_weight"),
        ({"boxes": dataclasses.replace(medium.boxes, margin=-1)}, "margin"),
        ({"strokes": dataclasses.replace(medium.strokes, max_times=10**30)}, "at most 100000"),
    ):
        with pytest.raises(SettingsError, match=words):
            dataclasses.replace(medium, **change)
