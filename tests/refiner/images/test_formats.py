"""File formats: each by its record, and how it is compressed."""

from __future__ import annotations

import io
import struct
import subprocess
import sys

import numpy as np
import pytest
from picture_files import LOSSLESS, deep_file, noise, reread, saved
from PIL import Image

from refiner import InputError
from refiner.images import formats
from refiner.images.codecs.format import Format
from refiner.images.masks import read_mask
from refiner.images.pairs import find_pairs, image_files
from refiner.images.picture import Picture
from refiner.images.reading import read_picture, read_size
from refiner.images.writing import default_suffix, encode, format_of, losses_in, save, takes_quality


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
    assert "a little too" in losses_in(picture, tmp_path / f"x.{suffix}")[0]
    small, large = (len(encode(picture, tmp_path / f"x.{suffix}", quality=q)) for q in (10, 99))
    assert small < large


def test_quality_where_there_is_none(tmp_path) -> None:
    picture = Picture(noise(9, 9, 3))
    with pytest.raises(InputError, match="PNG has none"):
        encode(picture, tmp_path / "x.png", quality=90)
    assert losses_in(picture, tmp_path / "x.webp") == []
    assert len(losses_in(picture, tmp_path / "x.webp", quality=90)) == 1


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
    with pytest.raises(InputError, match=r"deep\.png: holds 16 bits a channel.*refiner-inpainting\[formats\]"):
        read_picture(path)


# --- a format of one record ---------------------------------------------------------------------------------------

SIGNATURE = b"TOY!"


def open_toy(path) -> Image.Image:
    data = path.read_bytes()
    width, height = struct.unpack_from("<HH", data, len(SIGNATURE))
    return Image.frombytes("RGB", (width, height), data[len(SIGNATURE) + 4 :])


def write_toy(picture, metadata, quality) -> bytes:
    height, width = picture.size
    return SIGNATURE + struct.pack("<HH", width, height) + picture.to_pil().convert("RGB").tobytes()


@pytest.fixture
def toy_format():
    kind = Format(
        "TOY",
        (".toy",),
        modes=("RGB",),
        max_side=1000,
        lossless=True,
        signature=SIGNATURE,
        open=open_toy,
        write=write_toy,
    )
    formats.register(kind)
    yield kind
    formats.unregister(kind.name)


def test_a_record_is_all_that_a_format_takes(tmp_path, toy_format) -> None:
    picture, path = Picture(noise(20, 30, 3)), tmp_path / "photo.toy"
    save(picture, path)
    again = read_picture(path)
    assert np.array_equal(again.color, picture.color)
    assert again.format == format_of(path) == "TOY"
    assert read_size(path) == (20, 30)
    assert default_suffix(path) == ".toy"
    assert losses_in(picture, path) == []
    assert "TOY holds 8 bits" in losses_in(Picture(noise(4, 4, 3, depth=16)), path)[0]
    with pytest.raises(InputError, match="TOY holds sides up to 1000 px"):
        encode(Picture(noise(1, 1001, 3)), path)

    mask = np.zeros((20, 30, 3), dtype=np.uint8)
    mask[5:9, 5:9] = 255
    save(Picture(mask), tmp_path / "photo_mask.toy")
    (pair,) = find_pairs(tmp_path).pairs
    assert (pair.image, pair.mask) == (path, tmp_path / "photo_mask.toy")
    assert read_mask(pair.mask, again).mask.sum() == 16


def test_a_damaged_file_of_a_new_format_is_one_line(tmp_path, toy_format) -> None:
    (tmp_path / "cut.toy").write_bytes(SIGNATURE + b"\0")
    with pytest.raises(InputError, match=r"cut\.toy: is damaged or cut short"):
        read_picture(tmp_path / "cut.toy")


def test_without_its_record_a_format_is_unknown(tmp_path) -> None:
    with pytest.raises(InputError, match=r"ends in \.png, .* or \.ppm\.$"):
        save(Picture(noise(4, 4, 3)), tmp_path / "photo.toy")
    (tmp_path / "photo.toy").write_bytes(SIGNATURE + bytes(100))
    with pytest.raises(InputError, match=r"expected PNG, .* or PPM"):
        read_picture(tmp_path / "photo.toy")
    assert image_files(tmp_path) == ([], [])


def test_records_are_those_of_pillow() -> None:
    """Names and suffixes are Pillow's; what is left out of a record would be found nowhere."""
    formats.load_plugins()
    Image.init()
    names: dict[str, set[str]] = {}
    for suffix, name in Image.registered_extensions().items():
        names.setdefault(formats.by_name(name).name, set()).add(suffix)
    for kind in formats.writable():
        assert set(kind.suffixes) == names[kind.name]
        assert all(formats.by_suffix(suffix.upper()) is kind for suffix in kind.suffixes)
        assert kind.name in Image.SAVE


@pytest.mark.parametrize("name", [kind.name for kind in formats.writable()])
def test_modes_are_held_as_their_record_says(tmp_path, name) -> None:
    kind = formats.by_name(name)
    for mode in kind.modes:
        channels, alpha = {"L": 1, "RGB": 3, "CMYK": 4}[mode.removesuffix("A")], mode.endswith("A")
        picture = Picture(noise(16, 24, channels), noise(16, 24) if alpha else None)
        again = reread(encode(picture, tmp_path / f"x{kind.suffix}"), tmp_path, kind.suffix[1:])
        assert again.mode == mode or (name == "BMP" and mode == "L")  # read from a palette of grays
        assert not kind.lossless or np.array_equal(again.to_pil().convert(picture.to_pil().mode), picture.to_pil())


def test_files_are_written_whole_or_not_at_all(tmp_path) -> None:
    path = tmp_path / "out.png"
    save(Picture(noise(4, 4, 3)), path)
    before = path.read_bytes()
    with pytest.raises(InputError, match="PNG has none"):
        save(Picture(noise(4, 4, 3)), str(path), quality=50)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_formats_are_known_without_waiting_for_pytorch() -> None:
    """The command line's help lists them."""
    code = "import sys, refiner.images.formats; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
