from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from refiner import InputError
from refiner.images import encode, format_of, is_lossy, read_picture, to_image
from refiner.masks import read_mask

RNG = np.random.default_rng(0)


def noise(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def saved(tmp_path, image: Image.Image, name: str = "photo.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_only_the_hole_changes_and_the_mode_stays(tmp_path, mode) -> None:
    original = noise(20, 30, len(mode)).squeeze()
    picture = read_picture(saved(tmp_path, Image.fromarray(original)))
    assert picture.image.mode == mode
    hole = np.zeros((20, 30), dtype=bool)
    hole[5:9, 7:19] = True
    fill = torch.rand(1, 3, 20, 30)
    reread = Image.open(io.BytesIO(encode(picture.filled(fill, hole), tmp_path / "out.png")))
    result = np.asarray(reread)
    assert reread.mode == mode
    assert np.array_equal(result[~hole], original[~hole])
    expected = to_image(fill) if mode.startswith("RGB") else to_image(fill).convert("L")
    colours = result[..., : len(mode) - 1] if mode.endswith("A") else result
    assert np.array_equal(np.squeeze(colours)[hole], np.asarray(expected)[hole])
    if mode.endswith("A"):
        assert np.array_equal(result[..., -1], original[..., -1])


def test_every_8_bit_value_survives_the_way_through_float() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = read_picture(np.stack([values] * 3, axis=2))
    assert np.array_equal(np.asarray(to_image(picture.rgb())), np.asarray(picture.image))


def test_orientation_is_applied_and_metadata_kept(tmp_path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # shown turned by a quarter
    exif[315] = "somebody"
    path = saved(tmp_path, Image.fromarray(noise(20, 30, 3)), exif=exif, icc_profile=b"profile", dpi=(300, 300))
    picture = read_picture(path)
    assert picture.size == (30, 20)
    filled = picture.filled(torch.rand(1, 3, 30, 20), np.zeros((30, 20), dtype=bool))
    out = Image.open(io.BytesIO(encode(filled, tmp_path / "out.png")))
    assert out.getexif().get(274, 1) == 1
    assert out.getexif()[315] == "somebody"
    assert out.info["icc_profile"] == b"profile"
    assert out.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_palette_and_transparency_become_true_colour(tmp_path) -> None:
    colours = Image.fromarray(noise(9, 9, 3)).quantize(16)
    picture = read_picture(saved(tmp_path, colours))
    assert picture.image.mode == "RGB"
    assert np.array_equal(np.asarray(picture.image), np.asarray(colours.convert("RGB")))
    clear = read_picture(saved(tmp_path, colours, "clear.png", transparency=0))
    assert clear.image.mode == "RGBA"
    assert read_picture(saved(tmp_path, Image.new("1", (9, 9), 1), "bits.png")).image.mode == "L"


def test_a_shrunk_result_is_taken_whole() -> None:
    picture = read_picture(noise(20, 30, 4))
    filled = picture.filled(torch.rand(1, 3, 10, 15), np.zeros((20, 30), dtype=bool))
    assert filled.size == (15, 10)
    assert filled.mode == "RGBA"


@pytest.mark.parametrize(
    ("mode", "message"),
    [("I;16", "holds 16 bits a channel"), ("CMYK", "is an image of mode CMYK"), ("F", "is an image of mode F")],
)
def test_other_modes_are_refused_not_reduced(tmp_path, mode, message) -> None:
    path = saved(tmp_path, Image.new(mode, (9, 9)), "deep.tif")
    with pytest.raises(InputError, match=f"deep.tif: {message}, expected 8"):
        read_picture(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not an image"), (b"words", "not an image"), (None, "no such image file")],
)
def test_files_that_are_no_images(tmp_path, content, message) -> None:
    path = tmp_path / "photo.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_picture(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_files_cut_short_anywhere(tmp_path, suffix) -> None:
    whole = saved(tmp_path, Image.fromarray(noise(64, 64, 3)), f"photo.{suffix}")
    data = whole.read_bytes()
    for share in (0.02, 0.3, 0.9):
        whole.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(InputError) as caught:
            read_picture(whole)
        assert "\n" not in str(caught.value)


def test_a_folder_and_a_bomb(tmp_path, monkeypatch) -> None:
    with pytest.raises(InputError, match="is a folder"):
        read_picture(tmp_path)
    path = saved(tmp_path, Image.new("L", (50, 50)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(InputError, match="more pixels than can be opened safely"):
        read_picture(path)


def test_arrays_that_are_no_pictures() -> None:
    for array in (np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8)):
        with pytest.raises(InputError, match="expected an array"):
            read_picture(array)


def test_formats_by_name(tmp_path) -> None:
    assert format_of(tmp_path / "a.JPG") == "JPEG"
    assert is_lossy(tmp_path / "a.jpeg")
    for name in ("a.png", "a.TIF", "a.webp", "a.bmp"):
        assert not is_lossy(tmp_path / name)
    for name in ("a", "a.txt", "a.psd", "a.gif", "a.pdf", "a.ico"):
        with pytest.raises(InputError, match=r"expected a name that ends in \.png"):
            format_of(tmp_path / name)
    with pytest.raises(InputError, match="JPEG cannot hold this image"):
        encode(Image.new("RGBA", (4, 4)), tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "bmp"])
def test_lossless_formats_keep_every_pixel(tmp_path, suffix) -> None:
    """Also where the photo came as a TIFF compressed by JPEG, which Pillow would repeat."""
    source = saved(tmp_path, Image.fromarray(noise(40, 40, 3)), "in.tif", compression="jpeg")
    picture = read_picture(source)
    filled = picture.filled(torch.rand(1, 3, 40, 40), np.zeros((40, 40), dtype=bool))
    with Image.open(io.BytesIO(encode(filled, tmp_path / f"out.{suffix}"))) as reread:
        assert np.array_equal(np.asarray(reread), np.asarray(picture.image))


def test_malformed_exif_is_passed_over(tmp_path) -> None:
    path = saved(tmp_path, Image.fromarray(noise(9, 9, 3)), "photo.png", exif=b"Exif\x00\x00not exif at all")
    assert read_picture(path).size == (9, 9)


@pytest.fixture
def picture():
    return read_picture(noise(6, 8, 3))


def test_masks_of_all_kinds(tmp_path, picture) -> None:
    hole = np.zeros((6, 8), dtype=bool)
    hole[2:4, 3:6] = True
    grey = Image.fromarray((hole * 255).astype(np.uint8))
    faint = Image.fromarray(hole.astype(np.uint8))  # 1 of 255
    blue = Image.fromarray(np.stack([hole * 0, hole * 0, hole * 9], axis=2).astype(np.uint8))
    opaque = grey.convert("RGBA")
    cut_out = Image.new("LA", grey.size, (255, 255))
    cut_out.putalpha(grey)
    for mask in (
        grey,
        faint,
        blue,
        opaque,
        cut_out,
        grey.convert("1"),
        grey.convert("P"),
        np.asarray(grey),
        hole,
    ):
        assert np.array_equal(read_mask(mask, picture), hole)
    assert np.array_equal(read_mask(saved(tmp_path, grey, "mask.png"), picture), hole)
    assert not read_mask(Image.new("L", (8, 6)), picture).any()


def test_masks_that_do_not_fit(tmp_path, picture) -> None:
    with pytest.raises(InputError, match=r"mask.png: is 8x7, image is 8x6"):
        read_mask(saved(tmp_path, Image.new("L", (8, 7)), "mask.png"), picture)
    with pytest.raises(InputError, match=r"mask.png: is white all over"):
        read_mask(saved(tmp_path, Image.new("L", (8, 6), 255), "mask.png"), picture)
    with pytest.raises(InputError, match="no such mask file"):
        read_mask(tmp_path / "nothing.png", picture)
