"""EXIF data, color profile and resolution go from the photo to its result; orientation is applied."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
import pytest
from picture_files import noise, saved
from PIL import ExifTags, Image, ImageCms, ImageOps

from refiner.images.picture import Picture
from refiner.images.reading import read_picture
from refiner.images.writing import encode, losses_in

GPS, DETAILS = ExifTags.IFD.GPSInfo, ExifTags.IFD.Exif


@cache
def a_profile() -> bytes:  # which holds the second it was made in
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def some_exif(orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "somebody"
    exif[ExifTags.Base.Orientation] = orientation
    exif[DETAILS] = {ExifTags.Base.FNumber: 2.8, ExifTags.Base.DateTimeOriginal: "2024:01:02 03:04:05"}
    exif[GPS] = {1: "N", 2: (48.0, 51.0, 30.0)}
    return exif


@pytest.mark.parametrize("source", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "avif"])
def test_exif_profile_and_resolution_are_kept(tmp_path, source, suffix) -> None:
    options = {"exif": some_exif().tobytes(), "icc_profile": a_profile(), "dpi": (300, 300)}
    picture = read_picture(saved(tmp_path, Image.fromarray(noise(20, 30, 3)), f"in.{source}", **options))
    out = Image.open(io.BytesIO(encode(picture, tmp_path / f"out.{suffix}")))
    exif = out.getexif()
    assert exif[ExifTags.Base.Artist] == "somebody"
    assert exif.get_ifd(DETAILS)[ExifTags.Base.FNumber] == pytest.approx(2.8)
    assert exif.get_ifd(DETAILS)[ExifTags.Base.DateTimeOriginal] == "2024:01:02 03:04:05"
    assert exif.get_ifd(GPS)[2] == (48, 51, 30)
    assert out.info["icc_profile"] == a_profile()
    if source != "webp" and suffix not in ("webp", "avif"):
        assert out.info["dpi"] == pytest.approx((300, 300), abs=0.1)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_files_keep_their_metadata(tmp_path, suffix) -> None:
    metadata = {"exif": some_exif().tobytes(), "icc_profile": a_profile(), "dpi": (240, 240)}
    picture = Picture(noise(9, 8, 3, depth=16), metadata=metadata)
    path = tmp_path / f"out.{suffix}"
    path.write_bytes(encode(picture, path))
    again = read_picture(path)
    assert np.array_equal(again.color, picture.color)
    exif = Image.Exif()
    exif.load(again.metadata["exif"])
    assert exif[ExifTags.Base.Artist] == "somebody"
    assert exif.get_ifd(DETAILS)[ExifTags.Base.FNumber] == pytest.approx(2.8)
    assert exif.get_ifd(GPS)[1] == "N"
    assert again.metadata["icc_profile"] == a_profile()
    assert again.metadata["dpi"] == pytest.approx((240, 240), abs=0.1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_orientation_is_applied_and_the_tag_made_normal(tmp_path, orientation, suffix) -> None:
    stored = np.zeros((16, 32, 3), dtype=np.uint8)
    stored[:8, :16] = (250, 10, 10)  # a red top left corner
    path = saved(tmp_path, Image.fromarray(stored), f"in.{suffix}", exif=some_exif(orientation).tobytes())
    picture = read_picture(path)
    with Image.open(path) as opened:
        upright = np.asarray(ImageOps.exif_transpose(opened))  # Pillow's own turn is the oracle
    assert picture.size == upright.shape[:2] == ((32, 16) if orientation > 4 else (16, 32))
    assert np.array_equal(picture.color, upright)
    out = Image.open(io.BytesIO(encode(picture, tmp_path / "out.png")))
    assert out.getexif().get(ExifTags.Base.Orientation, 1) == 1
    assert np.array_equal(np.asarray(out), upright)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_16_bit_pictures_are_turned_once(tmp_path, orientation) -> None:
    values = noise(10, 14, 3, depth=16)
    for suffix in ("tif", "png"):
        path = tmp_path / f"deep.{suffix}"
        path.write_bytes(encode(Picture(values, metadata={"exif": some_exif(orientation).tobytes()}), path))
        picture = read_picture(path)
        shown = np.stack([turned_by_pillow(plane, orientation) for plane in np.moveaxis(values, 2, 0)], axis=2)
        assert np.array_equal(picture.color, shown)


def turned_by_pillow(plane: np.ndarray, orientation: int) -> np.ndarray:
    image = Image.fromarray(plane)
    image.getexif()[ExifTags.Base.Orientation] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def test_the_thumbnail_that_shows_what_was_removed_is_left_out(tmp_path) -> None:
    exif = some_exif()
    small = io.BytesIO()
    Image.new("RGB", (16, 16), (255, 0, 0)).save(small, "JPEG")
    head = exif.tobytes()
    path = saved(tmp_path, Image.fromarray(noise(20, 30, 3)), "in.jpg", exif=head + small.getvalue())
    out = encode(read_picture(path), tmp_path / "out.jpg")
    assert out.count(b"\xff\xd8\xff") == 1


def test_malformed_metadata_is_passed_over(tmp_path) -> None:
    for number, exif in enumerate([b"Exif\x00\x00not exif at all", b"", b"Exif\x00\x00MM\x00*\x00\x00\xff\xff"]):
        path = saved(tmp_path, Image.fromarray(noise(9, 9, 3)), f"photo{number}.png", exif=exif)
        picture = read_picture(path)
        assert picture.size == (9, 9)
        encode(picture, tmp_path / "out.png")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_a_jpeg_to_be_turned_keeps_its_samples(tmp_path, orientation, subsampling) -> None:
    """It is compressed as if it had come upright, whose samples hardly change: sides that are no multiple of a block,
    and tables that differ along rows and columns, as cameras write them."""
    stored = Image.fromarray(noise(9, 13, 3)).resize((117, 83), Image.Resampling.BICUBIC)
    table = [3 + 2 * (place % 8) + 3 * (place // 8) for place in range(64)]
    options = {"qtables": [table, table], "subsampling": subsampling}
    path = saved(tmp_path, stored, "in.jpg", exif=some_exif(orientation).tobytes(), **options)
    upright = read_picture(saved(tmp_path, stored, "upright.jpg", **options))
    picture, out = read_picture(path), tmp_path / "out.jpg"
    out.write_bytes(encode(picture, out))
    assert read_picture(out).size == picture.size
    with Image.open(out) as result, Image.open(io.BytesIO(encode(upright, out))) as expected:
        assert np.array_equal(np.asarray(result), np.asarray(expected))
    with Image.open(out) as result, Image.open(path) as before:
        assert result.quantization == before.quantization
        assert result.getexif()[ExifTags.Base.Orientation] == orientation
        assert result.getexif()[ExifTags.Base.Artist] == "somebody"
    assert Image.open(io.BytesIO(encode(picture, out, quality=90))).size == picture.size[::-1]  # made anew: upright


def test_a_palette_is_said_to_be_lost(tmp_path) -> None:
    image = Image.fromarray(noise(20, 20, 3))
    lines = [
        losses_in(read_picture(saved(tmp_path, one, f"{one.mode}.png")), tmp_path / "out.png")
        for one in (image.convert("P"), image)
    ]
    assert ["palette" in " ".join(each) for each in lines] == [True, False]
