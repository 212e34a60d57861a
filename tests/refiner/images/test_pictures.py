"""Pictures in and out: what was known comes back as it was, in every format, mode and depth."""

from __future__ import annotations

import io
from functools import cache

import cv2
import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms, ImageOps

from refiner import InputError
from refiner.images.picture import Picture, from_rgb
from refiner.images.reading import read_picture
from refiner.images.writing import check_fits, default_ending, encode, format_of, reductions, takes_quality

RNG = np.random.default_rng(0)
LOSSLESS = ["png", "tif", "webp", "bmp", "ppm"]
GPS, DETAILS = ExifTags.IFD.GPSInfo, ExifTags.IFD.Exif


def noise(*shape: int, depth: int = 8) -> np.ndarray:
    return RNG.integers(0, 2**depth, shape, dtype=np.uint16 if depth == 16 else np.uint8)


def hole_of(height: int, width: int) -> np.ndarray:
    hole = np.zeros((height, width), dtype=bool)
    hole[height // 4 : height // 2, width // 3 : width // 2 + 2] = True
    return hole


def saved(tmp_path, image: Image.Image, name: str = "photo.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def deep_file(tmp_path, values: np.ndarray, name: str):
    """A 16-bit file written by OpenCV, whose order is blue, green, red."""
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}
    stored = values[..., order[values.shape[2]]] if values.ndim == 3 else values
    assert cv2.imwrite(str(tmp_path / name), stored)
    return tmp_path / name


def reread(data: bytes, tmp_path, suffix: str) -> Picture:
    path = tmp_path / f"reread.{suffix}"
    path.write_bytes(data)
    return read_picture(path)


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_8_bits_outside_the_hole_are_exact(tmp_path, mode, suffix) -> None:
    original = noise(20, 30, len(mode)).squeeze()
    picture = read_picture(saved(tmp_path, Image.fromarray(original)))
    assert picture.mode == mode
    hole, fill = hole_of(20, 30), torch.rand(1, 3, 20, 30)
    filled = picture.filled(fill, hole)
    if mode.endswith("A") and suffix in ("bmp", "ppm"):
        with pytest.raises(InputError, match="transparency"):
            encode(filled, tmp_path / f"out.{suffix}")
        return
    result = reread(encode(filled, tmp_path / f"out.{suffix}"), tmp_path, suffix)
    values = np.asarray(result)
    if suffix in ("webp", "bmp") and mode in ("L", "LA"):  # which hold gray as RGB
        values = np.delete(values, [0, 1], axis=2) if values.ndim == 3 else values
        values = values[..., 0] if values.shape[2:] == (1,) else values
    assert np.array_equal(values[~hole], original[~hole])
    expected = from_rgb(fill).color
    if mode.startswith("L"):
        expected = np.rint(fill[0].permute(1, 2, 0).numpy() @ np.float32([0.299, 0.587, 0.114]) * 255)[..., None]
    colors = values.reshape(20, 30, -1)[..., : expected.shape[2]]
    assert np.array_equal(colors[hole], expected[hole])
    if mode.endswith("A"):
        assert np.array_equal(values[..., -1], original[..., -1])


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("source", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits_stay_16_outside_and_inside_the_hole(tmp_path, channels, source, suffix) -> None:
    original = noise(24, 31, channels, depth=16).squeeze()
    picture = read_picture(deep_file(tmp_path, original, f"deep.{source}"))
    assert picture.depth == 16
    assert np.array_equal(np.asarray(picture), original)
    torch.testing.assert_close(picture.rgb()[0, 0], torch.from_numpy(picture.color[..., 0] / 65535).float())
    hole, fill = hole_of(24, 31), torch.rand(1, 3, 24, 31)
    data = encode(picture.filled(fill, hole), tmp_path / f"out.{suffix}")
    result = reread(data, tmp_path, suffix)
    assert result.depth == 16
    values = np.asarray(result)
    assert np.array_equal(values[~hole], original[~hole])
    inside = result.color[hole].astype(int)
    assert len(np.unique(inside % 257)) > 20  # not 8-bit values stretched
    if channels > 1:
        wanted = np.rint(fill[0].permute(1, 2, 0).numpy() * np.float32(65535))[hole]
        assert np.array_equal(inside, wanted)
    # An independent reader agrees.
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded.dtype == np.uint16
    assert np.array_equal(decoded[..., [2, 1, 0, 3][:channels]] if channels > 1 else decoded, values)


def test_16_bit_gray_with_alpha(tmp_path) -> None:
    picture = Picture(noise(9, 8, 1, depth=16), noise(9, 8, depth=16))
    for suffix in ("png", "tif"):
        result = reread(encode(picture, tmp_path / f"x.{suffix}"), tmp_path, suffix)
        assert result.mode == ("LA" if suffix == "png" else "RGBA")  # which few programs read in a TIFF
        assert np.array_equal(result.color, np.broadcast_to(picture.color, result.color.shape))
        assert np.array_equal(result.alpha, picture.alpha)


def test_what_8_bits_lose_is_said(tmp_path) -> None:
    picture = read_picture(deep_file(tmp_path, noise(9, 8, 3, depth=16), "deep.png"))
    (line,) = reductions(picture, tmp_path / "out.webp")
    assert line == "WEBP holds 8 bits a channel, the photo has 16; a .png or .tif keeps them."
    result = reread(encode(picture, tmp_path / "out.webp"), tmp_path, "webp")
    assert np.abs(result.color * 257.0 - picture.color).max() <= 129
    assert reductions(picture, tmp_path / "out.tif") == []


def test_depth_is_kept_or_told_whatever_the_format(tmp_path) -> None:
    values = noise(128, 160, 3, depth=16)
    for name in ("a.png", "a.ppm", "a.jp2"):
        deep_file(tmp_path, values, name)
    with Image.open(tmp_path / "a.png") as opened:
        for source in (tmp_path / "a.png", tmp_path / "a.ppm", opened):
            picture = read_picture(source)
            assert np.array_equal(picture.color, values)
            assert picture.stored_depth is None
    (tmp_path / "b.ppm").write_bytes(b"P6\n160 128\n1023\n" + (values // 64).astype(">u2").tobytes())
    for name, depth in (("a.jp2", 16), ("b.ppm", 10)):
        picture = read_picture(tmp_path / name)
        assert (picture.depth, picture.stored_depth) == (8, depth)
        assert f"holds {depth} bits a channel, of which 8 were read" in reductions(picture, tmp_path / "out.png")[0]


def test_metadata_that_a_format_cannot_hold_is_told(tmp_path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "x" * 70_000
    metadata = {"icc_profile": profile, "exif": exif.tobytes(), "dpi": (300.0, 300.0)}
    picture = Picture(noise(8, 8, 3), metadata=metadata)
    assert reductions(picture, tmp_path / "x.png") == []
    assert reductions(picture, tmp_path / "x.bmp") == [
        "BMP cannot hold the photo's color profile and EXIF data; a .png keeps them."
    ]
    with pytest.raises(InputError, match="JPEG holds 65533 bytes of EXIF"):
        check_fits(tmp_path / "x.jpg", picture.mode, picture.size, picture.metadata)
    gray = Picture(noise(8, 8, 1), metadata={"icc_profile": profile})
    assert "profile of gray" in reductions(gray, tmp_path / "x.webp")[0]
    assert reread(encode(gray, tmp_path / "x.webp"), tmp_path, "webp").metadata == {}
    assert reread(encode(gray, tmp_path / "x.png"), tmp_path, "png").metadata == {"icc_profile": profile}


def test_every_value_survives_the_way_through_float() -> None:
    for kind in (np.uint8, np.uint16):
        values = np.arange(np.iinfo(kind).max + 1, dtype=kind).reshape(256, -1)
        picture = Picture(np.stack([values] * 3, axis=2))
        again = picture.filled(picture.rgb(), np.ones(values.shape, dtype=bool))
        assert np.array_equal(again.color, picture.color)


def test_feathering_blends_inside_the_hole_alone() -> None:
    picture = Picture(np.full((4, 5, 3), 100, dtype=np.uint8))
    hole = np.zeros((4, 5), dtype=bool)
    hole[1:3, 1:4] = True
    weight = np.where(hole, 0.25, 0).astype(np.float32)
    filled = picture.filled(torch.ones(1, 3, 4, 5), hole, weight)
    assert np.array_equal(np.unique(filled.color[hole]), [139])  # 0.25 * 255 + 0.75 * 100
    assert np.array_equal(np.unique(filled.color[~hole]), [100])


# --- metadata -----------------------------------------------------------------------------------------------------


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


# --- modes --------------------------------------------------------------------------------------------------------


def test_palette_bits_and_transparency_become_true_color(tmp_path) -> None:
    colors = Image.fromarray(noise(9, 9, 3)).quantize(16)
    picture = read_picture(saved(tmp_path, colors))
    assert picture.mode == "RGB"
    assert np.array_equal(picture.color, np.asarray(colors.convert("RGB")))
    assert read_picture(saved(tmp_path, colors, "clear.png", transparency=0)).mode == "RGBA"
    assert read_picture(saved(tmp_path, Image.new("1", (9, 9), 1), "bits.png")).mode == "L"
    keyed = saved(tmp_path, Image.fromarray(noise(9, 9, 3)), "keyed.png", transparency=(1, 2, 3))
    assert read_picture(keyed).mode == "RGBA"
    gif = read_picture(saved(tmp_path, colors, "still.gif"))
    assert np.array_equal(gif.color, np.asarray(colors.convert("RGB")))
    assert default_ending(tmp_path / "still.gif") == ".png"


@pytest.mark.parametrize("suffix", ["tif", "jpg"])
def test_cmyk_stays_cmyk_and_its_known_pixels_exact(tmp_path, suffix) -> None:
    image = Image.fromarray(noise(40, 40, 3)).convert("CMYK")
    path = saved(tmp_path, image, f"in.{suffix}")
    picture = read_picture(path)
    assert picture.mode == "CMYK"
    with Image.open(path) as opened:
        stored = np.asarray(opened)
        shown = np.asarray(opened.convert("RGB"))
    assert np.array_equal((picture.rgb()[0].permute(1, 2, 0) * 255).round().numpy(), shown)
    hole, fill = hole_of(40, 40), torch.rand(1, 3, 40, 40)
    filled = picture.filled(fill, hole)
    out = Image.open(io.BytesIO(encode(filled, tmp_path / "out.tif")))
    assert out.mode == "CMYK"
    assert np.array_equal(np.asarray(out)[~hole], stored[~hole])
    # What was filled looks as it was predicted.
    assert np.abs(np.asarray(out.convert("RGB"))[hole].astype(int) - from_rgb(fill).color[hole]).max() <= 2
    assert reductions(picture, tmp_path / "out.png")[0].startswith("PNG cannot hold CMYK")
    assert Image.open(io.BytesIO(encode(filled, tmp_path / "out.png"))).mode == "RGB"


@pytest.mark.parametrize("mode", ["YCbCr", "LAB"])
def test_other_color_spaces_are_read_or_refused_in_words(tmp_path, mode) -> None:
    path = saved(tmp_path, Image.new(mode, (9, 9)), "other.tif")
    try:
        assert read_picture(path).mode == "RGB"
    except InputError as error:
        assert "other.tif" in str(error)  # noqa: PT017


@pytest.mark.parametrize("mode", ["F", "I"])
def test_numbers_without_a_range_are_refused(tmp_path, mode) -> None:
    path = saved(
        tmp_path, Image.fromarray(np.full((9, 9), 70000, dtype=np.float32 if mode == "F" else np.int32)), "n.tif"
    )
    with pytest.raises(InputError, match=r"n\.tif: holds . values without a known range"):
        read_picture(path)


def test_a_shrunk_result_is_taken_whole() -> None:
    picture = read_picture(noise(20, 30, 4))
    filled = picture.filled(torch.rand(1, 3, 10, 15), np.zeros((20, 30), dtype=bool))
    assert filled.size == (10, 15)
    assert filled.mode == "RGBA"
    assert filled.alpha.shape == (10, 15)


# --- formats ------------------------------------------------------------------------------------------------------


def test_formats_by_name(tmp_path) -> None:
    assert format_of(tmp_path / "a.JPG") == "JPEG"
    assert [takes_quality(tmp_path / f"a.{s}") for s in ("jpeg", "webp", "avif", "heic", "png", "tif")] == [
        True
    ] * 4 + [False] * 2
    for name in ("a", "a.txt", "a.psd", "a.gif", "a.pdf", "a.ico"):
        with pytest.raises(InputError, match=r"expected a name that ends in \.png"):
            format_of(tmp_path / name)


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_a_photo_compressed_by_jpeg_is_not_compressed_again(tmp_path, suffix) -> None:
    """Also where it came as a TIFF compressed by JPEG, which Pillow would repeat."""
    source = saved(tmp_path, Image.fromarray(noise(40, 40, 3)), "in.tif", compression="jpeg")
    picture = read_picture(source)
    again = reread(encode(picture, tmp_path / f"out.{suffix}"), tmp_path, suffix)
    assert np.array_equal(again.color, picture.color)


@pytest.mark.parametrize("quality", [30, 88])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_a_jpeg_is_compressed_as_it_came(tmp_path, quality, subsampling) -> None:
    image = Image.fromarray(noise(12, 12, 3)).resize((96, 96), Image.Resampling.BICUBIC)
    path = saved(tmp_path, image, "in.jpg", quality=quality, subsampling=subsampling)
    picture = read_picture(path)
    out = Image.open(io.BytesIO(encode(picture, tmp_path / "out.jpg")))
    with Image.open(path) as before:
        assert out.quantization == before.quantization
        from PIL.JpegImagePlugin import get_sampling

        assert get_sampling(out) == get_sampling(before) == subsampling
    better = encode(picture, tmp_path / "out.jpg", quality=100)
    assert len(better) > len(path.read_bytes())
    plain = Image.open(io.BytesIO(encode(Picture(picture.color), tmp_path / "out.jpg")))
    assert get_sampling(plain) == 0  # made anew: no subsampling


@pytest.mark.parametrize("suffix", ["avif", "heic"])
def test_modern_formats_are_read_and_written(tmp_path, suffix) -> None:
    smooth = Image.fromarray(noise(4, 4, 3)).resize((64, 48), Image.Resampling.BICUBIC)
    picture = Picture(np.array(smooth))
    again = reread(encode(picture, tmp_path / f"x.{suffix}"), tmp_path, suffix)
    assert again.size == (48, 64)
    assert np.abs(again.color.astype(int) - picture.color).mean() < 3
    assert "a little too" in reductions(picture, tmp_path / f"x.{suffix}")[0]
    small, large = (len(encode(picture, tmp_path / f"x.{suffix}", quality=q)) for q in (10, 99))
    assert small < large


def test_quality_where_there_is_none(tmp_path) -> None:
    picture = Picture(noise(9, 9, 3))
    with pytest.raises(InputError, match="PNG has none"):
        encode(picture, tmp_path / "x.png", quality=90)
    assert reductions(picture, tmp_path / "x.webp") == []
    assert len(reductions(picture, tmp_path / "x.webp", quality=90)) == 1


def test_arrays_that_are_no_pictures() -> None:
    for array in (
        np.zeros((4, 4, 3)),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 4), np.uint8),
    ):
        with pytest.raises(InputError, match="expected an array"):
            read_picture(array)


def test_without_opencv_the_way_to_get_it_is_named(tmp_path, monkeypatch) -> None:
    path = deep_file(tmp_path, noise(9, 8, 3, depth=16), "deep.png")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"deep\.png: holds 16 bits a channel.*refiner\[formats\]"):
        read_picture(path)
