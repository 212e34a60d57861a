from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from refiner import InputError, SettingsError
from refiner.images.masks import MaskOptions, read_mask
from refiner.images.picture import Picture
from refiner.images.reading import read_picture
from refiner.images.writing import save


def picture_of(height: int, width: int, **options) -> Picture:
    return Picture(np.zeros((height, width, 3), dtype=np.uint8), **options)


@pytest.fixture
def picture():
    return picture_of(6, 8)


@pytest.fixture
def hole():
    hole = np.zeros((6, 8), dtype=bool)
    hole[2:4, 3:6] = True
    return hole


def test_masks_of_all_kinds(tmp_path, picture, hole) -> None:
    gray = Image.fromarray((hole * 255).astype(np.uint8))
    faint = Image.fromarray(hole.astype(np.uint8))  # 1 of 255
    blue = Image.fromarray(np.stack([hole * 0, hole * 0, hole * 9], axis=2).astype(np.uint8))
    cut_out = Image.new("LA", gray.size, (255, 255))
    cut_out.putalpha(gray)
    deep = Image.fromarray(hole.astype(np.uint16) * 65535)
    gray.save(tmp_path / "mask.png")
    kinds = [gray, faint, blue, gray.convert("RGBA"), cut_out, gray.convert("1"), gray.convert("P"), np.asarray(gray)]
    for mask in [*kinds, hole, deep, gray.convert("CMYK"), tmp_path / "mask.png", str(tmp_path / "mask.png")]:
        found = read_mask(mask, picture)
        assert np.array_equal(found.mask, hole)
        assert found.weight is None
        assert found.warning is None
    assert not read_mask(Image.new("L", (8, 6)), picture).mask.any()


def test_labels_of_16_bits_count_from_1(picture, hole) -> None:
    assert np.array_equal(read_mask(hole.astype(np.uint16), picture).mask, hole)
    assert np.array_equal(read_mask(Image.fromarray(hole.astype(np.uint16)), picture).mask, hole)


def test_what_is_transparent_is_not_hole_either_way(picture, hole) -> None:
    layer = np.zeros((6, 8, 4), dtype=np.uint8)
    layer[hole] = (0, 0, 0, 255)  # black strokes on nothing
    assert np.array_equal(read_mask(layer, picture, MaskOptions(invert=True)).mask, hole)


def test_threshold_and_inversion(picture) -> None:
    values = np.arange(48, dtype=np.uint8).reshape(6, 8)
    assert np.array_equal(read_mask(values, picture, MaskOptions(threshold=20)).mask, values > 20)
    assert np.array_equal(read_mask(values, picture, MaskOptions(threshold=20, invert=True)).mask, values <= 20)


@pytest.mark.parametrize("distance", [1, 2, 3, 5])
def test_dilation_is_round(distance) -> None:
    mask = np.zeros((21, 23), dtype=np.uint8)
    mask[10, 11] = 255
    grown = read_mask(mask, picture_of(21, 23), MaskOptions(dilate=distance)).mask
    y, x = np.mgrid[0:21, 0:23]
    assert np.array_equal(grown, np.hypot(y - 10, x - 11) <= distance)


def test_feathering_rises_from_the_rim_inwards() -> None:
    mask = np.zeros((40, 40), dtype=np.uint8)
    mask[10:30, 10:30] = 255
    found = read_mask(mask, picture_of(40, 40), MaskOptions(feather=4))
    row = found.weight[20, 8:18]
    assert row.tolist() == pytest.approx([0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1, 1, 1])
    assert (found.weight[~found.mask] == 0).all()
    assert (found.weight[found.mask] > 0).all()
    grown = read_mask(mask, picture_of(40, 40), MaskOptions(dilate=3, feather=3))
    assert grown.weight[20, 7] == pytest.approx(1 / 6)  # begins at the grown hole's rim


def test_feathering_wider_than_the_hole_is_warned_of() -> None:
    mask = np.zeros((40, 40), dtype=np.uint8)
    mask[10:30, 10:30] = 255
    assert read_mask(mask, picture_of(40, 40), MaskOptions(feather=9)).warning is None
    assert "wide enough for feather 30" in str(read_mask(mask, picture_of(40, 40), MaskOptions(feather=30)).warning)


def test_deep_masks_count_however_small_their_values(tmp_path, picture) -> None:
    values = np.zeros((6, 8, 3), dtype=np.uint16)
    values[2, 3:5] = 200  # less than one of 255
    assert cv2.imwrite(str(tmp_path / "mask.png"), values)
    with Image.open(tmp_path / "mask.png") as opened:
        for source in (tmp_path / "mask.png", opened):
            assert read_mask(source, picture).mask.sum() == 2
    Image.fromarray(np.full((6, 8), 0.9, dtype=np.float32)).save(tmp_path / "mask.tif")
    with pytest.raises(InputError, match="F values without a known range"):
        read_mask(tmp_path / "mask.tif", picture)


def test_gray_of_16_bits_is_held_to_the_threshold_in_every_mode(tmp_path, picture) -> None:
    """Pillow has 16-bit gray as I;16 or, from a PGM, as I."""
    values = np.linspace(0, 65535, 48).astype(np.uint16).reshape(6, 8)
    (tmp_path / "mask.pgm").write_bytes(b"P5\n8 6\n65535\n" + values.astype(">u2").tobytes())
    with Image.open(tmp_path / "mask.pgm") as opened:
        assert opened.mode == "I"
    Image.fromarray(values).save(tmp_path / "mask.png")
    wide = Image.fromarray(values.astype(np.int32))
    for source in (tmp_path / "mask.pgm", tmp_path / "mask.png", wide, values):
        found = read_mask(source, picture, MaskOptions(threshold=127))
        assert np.array_equal(found.mask, values > 127 * 257)
    with pytest.raises(InputError, match="I values without a known range"):
        read_mask(Image.fromarray(np.full((6, 8), 70_000, dtype=np.int32)), picture)


def test_sizes_that_differ(tmp_path, picture) -> None:
    Image.new("L", (8, 7)).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match=r"mask\.png: is 8x7, image is 8x6; expected a mask of the picture's size\."):
        read_mask(tmp_path / "mask.png", picture, MaskOptions(resize=True))
    with pytest.raises(InputError, match=r"is 4x3, image is 8x6.*`resize`"):
        read_mask(Image.new("L", (4, 3)), picture)
    small = np.zeros((3, 4), dtype=np.uint8)
    small[1, 1:3] = 255
    scaled = read_mask(small, picture, MaskOptions(resize=True, threshold=127)).mask
    assert np.array_equal(scaled, np.kron(small > 0, np.ones((2, 2))) > 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_fit_the_upright_view_and_the_stored_pixels(tmp_path, orientation) -> None:
    stored = np.zeros((12, 20, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(stored).save(tmp_path / "photo.png", exif=exif)
    picture = read_picture(tmp_path / "photo.png")
    mark = np.zeros((12, 20), dtype=np.uint8)
    mark[1:3, 2:7] = 255
    upright = np.asarray(Image.fromarray(mark).transpose(picture.turned) if picture.turned is not None else mark)
    assert np.array_equal(read_mask(upright, picture).mask, upright > 0)
    if orientation > 4:  # else sizes cannot tell
        assert np.array_equal(read_mask(mark, picture).mask, upright > 0)
    Image.fromarray(mark).save(tmp_path / "mask.png", exif=exif)  # a mask may say itself how it lies
    assert np.array_equal(read_mask(tmp_path / "mask.png", picture).mask, upright > 0)
    deep = Picture(np.repeat(mark[..., None].astype(np.uint16) * 257, 3, axis=2), metadata={"exif": exif.tobytes()})
    for suffix in ("png", "tif"):
        save(deep, tmp_path / f"deep.{suffix}")
        assert np.array_equal(read_mask(tmp_path / f"deep.{suffix}", picture).mask, upright > 0)


def test_holes_from_alpha(picture) -> None:
    alpha = np.full((6, 8), 255, dtype=np.uint8)
    alpha[1, 2:5] = [0, 100, 254]
    clear = picture_of(6, 8, alpha=alpha)
    assert read_mask(None, clear, MaskOptions(from_alpha=True)).mask.sum() == 3
    assert read_mask(None, clear, MaskOptions(from_alpha=True, threshold=127)).mask.sum() == 2
    with pytest.raises(InputError, match="no transparency"):
        read_mask(None, picture, MaskOptions(from_alpha=True))


def test_a_mask_that_may_be_inverted_is_warned_of(picture, hole) -> None:
    inverted = (~hole * 255).astype(np.uint8)
    assert "if it is inverted, add `invert`" in str(read_mask(inverted, picture).warning)
    found = read_mask(inverted, picture, MaskOptions(invert=True))
    assert found.warning is None
    assert np.array_equal(found.mask, hole)
    large = np.zeros((6, 8), dtype=np.uint8)
    large[:, 1:] = 255  # large, but not all along the border
    assert read_mask(large, picture).warning is None


def test_masks_that_leave_nothing(tmp_path, picture) -> None:
    Image.new("L", (8, 6), 255).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match=r"mask\.png: is white all over"):
        read_mask(tmp_path / "mask.png", picture)
    with pytest.raises(InputError, match="grown by 20 pixels"):
        read_mask(np.eye(6, 8, dtype=np.uint8), picture, MaskOptions(dilate=20))
    with pytest.raises(InputError, match="inverted, it covers all"):
        read_mask(np.zeros((6, 8), dtype=np.uint8), picture, MaskOptions(invert=True))
    with pytest.raises(InputError, match="no such mask file"):
        read_mask(tmp_path / "nothing.png", picture)
    with pytest.raises(InputError, match="expected a mask, or `from_alpha`"):
        read_mask(None, picture)


@pytest.mark.parametrize("options", [{"threshold": 255}, {"threshold": -1}, {"dilate": -1}, {"feather": -2}])
def test_options_out_of_range(options) -> None:
    with pytest.raises(SettingsError, match=next(iter(options))):
        MaskOptions(**options)


def test_options_without_effect() -> None:
    with pytest.raises(SettingsError, match="resize: has no effect"):
        MaskOptions(resize=True, from_alpha=True)
