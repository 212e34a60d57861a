"""Pictures in and out: what was known comes back as it was, in every format, mode and depth."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import torch
from picture_files import LOSSLESS, deep_file, hole_of, noise, reread, saved
from PIL import ExifTags, Image, ImageCms

from refiner import InputError
from refiner.images.codecs import png
from refiner.images.picture import Picture, from_rgb
from refiner.images.reading import read_picture
from refiner.images.writing import check_fits, default_suffix, encode, losses_in


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


def test_what_8_bits_lose_is_listed(tmp_path) -> None:
    picture = read_picture(deep_file(tmp_path, noise(9, 8, 3, depth=16), "deep.png"))
    (line,) = losses_in(picture, tmp_path / "out.webp")
    assert line == "WEBP holds 8 bits a channel, the photo has 16; a .png or .tif keeps them."
    result = reread(encode(picture, tmp_path / "out.webp"), tmp_path, "webp")
    assert np.abs(result.color * 257.0 - picture.color).max() <= 129
    assert losses_in(picture, tmp_path / "out.tif") == []


def test_depth_is_kept_or_its_loss_listed_whatever_the_format(tmp_path) -> None:
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
        assert f"holds {depth} bits a channel, of which 8 were read" in losses_in(picture, tmp_path / "out.png")[0]


def test_metadata_that_a_format_cannot_hold_is_listed(tmp_path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "x" * 70_000
    metadata = {"icc_profile": profile, "exif": exif.tobytes(), "dpi": (300.0, 300.0)}
    picture = Picture(noise(8, 8, 3), metadata=metadata)
    assert losses_in(picture, tmp_path / "x.png") == []
    assert losses_in(picture, tmp_path / "x.bmp") == [
        "BMP cannot hold the photo's color profile and EXIF data; a .png keeps them."
    ]
    with pytest.raises(InputError, match="JPEG holds 65533 bytes of EXIF"):
        check_fits(tmp_path / "x.jpg", picture.mode, picture.size, picture.metadata)
    gray = Picture(noise(8, 8, 1), metadata={"icc_profile": profile})
    assert "profile of gray" in losses_in(gray, tmp_path / "x.webp")[0]
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
    assert default_suffix(tmp_path / "still.gif") == ".png"


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
    assert losses_in(picture, tmp_path / "out.png")[0].startswith("PNG cannot hold CMYK")
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


def test_older_numpy_and_opencv_will_do(tmp_path, monkeypatch) -> None:
    """NumPy before 2 knows no `copy=None`, and OpenCV before 4.13 no `cv2.utils.logging`."""
    source = deep_file(tmp_path, noise(8, 9, 3, depth=16), "deep.png")
    expected = read_picture(source)
    made, levels = np.array, []

    def array(*args, **kwargs):
        assert kwargs.get("copy", True) is not None
        return made(*args, **kwargs)

    monkeypatch.setattr(np, "array", array)
    monkeypatch.delattr(cv2.utils, "logging", raising=False)
    monkeypatch.setattr(cv2, "setLogLevel", lambda level: levels.append(level) or 5, raising=False)
    picture = read_picture(source)
    assert levels == [2, 5]
    assert np.array_equal(np.asarray(picture), np.asarray(expected))
    assert np.asarray(picture, np.float32).dtype == np.float32
    assert np.array_equal(
        np.asarray(reread(encode(picture, tmp_path / "out.png"), tmp_path, "png")), np.asarray(expected)
    )


def test_a_shrunk_result_is_taken_whole() -> None:
    picture = read_picture(noise(20, 30, 4))
    filled = picture.filled(torch.rand(1, 3, 10, 15), np.zeros((20, 30), dtype=bool))
    assert filled.size == (10, 15)
    assert filled.mode == "RGBA"
    assert filled.alpha.shape == (10, 15)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("depth", [8, 16])
def test_a_png_in_many_blocks_is_one_stream(tmp_path, monkeypatch, depth, channels) -> None:
    monkeypatch.setattr(png, "_BLOCK", 100)
    values = noise(37, 11, channels, depth=depth)
    picture = Picture(values) if channels % 2 else Picture(values[..., :-1], values[..., -1])
    data = encode(picture, tmp_path / "x.png")
    assert np.array_equal(np.asarray(reread(data, tmp_path, "png")), values.squeeze())
    parts, offset = [], 8
    while offset < len(data):
        (length,) = struct.unpack(">I", data[offset : offset + 4])
        if data[offset + 4 : offset + 8] == b"IDAT":
            parts.append(data[offset + 8 : offset + 8 + length])
        offset += length + 12
    assert len(parts) > 4
    # Which fails where the checksum is not that of all blocks.
    assert len(zlib.decompress(b"".join(parts))) == 37 * (11 * channels * depth // 8 + 1)


def test_a_photo_as_png_is_no_larger_than_by_pillow(tmp_path) -> None:
    y, x = np.mgrid[:300, :400]
    shades = 120 + 60 * np.sin(x / 40) * np.cos(y / 30) + np.random.default_rng(0).normal(0, 4, (300, 400))
    values = np.stack([shades, shades + 20, 255 - shades], axis=2).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG", compress_level=2)
    assert len(encode(Picture(values), tmp_path / "x.png")) < 1.05 * len(buffer.getvalue())


def test_a_hole_at_the_edge_is_filled_to_it() -> None:
    picture = Picture(noise(20, 30, 3))
    hole = np.zeros((20, 30), dtype=bool)
    hole[15:, 25:] = hole[3, 0] = True
    fill = torch.rand(1, 3, 20, 30)
    filled = picture.filled(fill, hole).color
    assert np.array_equal(filled[~hole], picture.color[~hole])
    assert np.array_equal(filled[hole], from_rgb(fill).color[hole])
    nothing = picture.filled(fill, np.zeros_like(hole))
    assert np.array_equal(nothing.color, picture.color)


@pytest.mark.parametrize("layout", ["read-only", "turned", "another byte order", "gray"])
def test_colors_of_an_array_however_it_lies_in_memory(layout: str) -> None:
    plain = np.random.default_rng(0).integers(0, 1 << 16, (9, 14, 3)).astype(np.uint16)
    lying = {"turned": plain[::-1, ::-1], "another byte order": plain.astype(plain.dtype.newbyteorder())}
    values = lying.get(layout, plain[..., :1] if layout == "gray" else plain.copy())
    values.flags.writeable = layout != "read-only"
    wanted = np.broadcast_to(values, plain.shape).astype(np.float32) / 65535
    assert np.array_equal(Picture(values).rgb()[0].permute(1, 2, 0).numpy(), wanted)
