"""HEIF of 10 and 12 bits: all of them are read, and as many are written."""

from __future__ import annotations

import io

import numpy as np
import pillow_heif
import pytest
from picture_files import noise, reread
from PIL import Image

import refiner
from refiner.images.codecs.heif import depth
from refiner.images.picture import Picture
from refiner.images.planes import from_bits, to_bits
from refiner.images.reading import read_picture
from refiner.images.writing import encode, losses_in

LOSSLESS = {"quality": -1, "subsampling": "4:4:4"}
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
HLG = {"color_primaries": 9, "transfer_characteristics": 18, "full_range_flag": 1}  # as phones' HDR photos have it


def values_of(bits: int, channels: int = 3) -> np.ndarray:
    """Every value from black to white, in smooth waves: 48x64."""
    rows, columns = np.mgrid[0:48, 0:64]
    waves = [0.5 + 0.5 * np.sin(rows / (5 + channel) + columns / 9) for channel in range(channels)]
    values = np.rint(np.stack(waves, axis=2) * (2**bits - 1)).astype(np.uint16)
    values[0, 0], values[0, 1] = 0, 2**bits - 1
    return values


def heic(tmp_path, values: np.ndarray, bits: int, name: str = "photo.heic", **options):
    """A file that holds the values exactly, written by pillow-heif itself."""
    path, (height, width, channels) = tmp_path / name, values.shape
    exact = LOSSLESS | ({"matrix_coefficients": 0} if "matrix_coefficients" not in options else {})
    mode = f"{MODES[channels]};{bits}" if bits > 8 else MODES[channels]
    pillow_heif.encode(mode, (width, height), values.tobytes(), path, **exact | {"bit_depth": bits} | options)
    return path


def stored(data: bytes) -> tuple[str, np.ndarray]:
    """Mode with bits, and the values as they are in the file, read by pillow-heif itself."""
    found = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False, hdr_to_16bit=False)
    return found.mode, np.array(found)  # a copy, as older versions free what they gave


@pytest.mark.parametrize("bits", [10, 12])
def test_scaling_to_16_bits_and_back_is_exact(bits) -> None:
    every = np.arange(2**bits, dtype=np.uint16)
    scaled = from_bits(every, bits)
    assert (scaled[0], scaled[-1]) == (0, 65535)
    assert np.abs(scaled - every * (65535 / (2**bits - 1))).max() <= 0.5
    assert np.array_equal(to_bits(scaled, bits), every)
    between = np.arange(65536, dtype=np.uint16)
    assert np.abs(to_bits(between, bits) - between * ((2**bits - 1) / 65535)).max() <= 0.5


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("bits", [10, 12])
def test_all_bits_are_read(tmp_path, bits, channels) -> None:
    values = values_of(bits, channels)
    picture = read_picture(heic(tmp_path, values, bits))
    assert (picture.depth, picture.bits, picture.stored_depth) == (16, bits, None)
    assert picture.mode == MODES[channels]
    assert np.array_equal(np.atleast_3d(np.asarray(picture)), from_bits(values, bits))
    for suffix in ("png", "tif"):
        assert losses_in(picture, tmp_path / f"out.{suffix}") == []
        again = reread(encode(picture, tmp_path / f"out.{suffix}"), tmp_path, suffix)
        assert np.array_equal(to_bits(np.atleast_3d(np.asarray(again)), bits), values)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("bits", [10, 12])
def test_as_many_bits_are_written(tmp_path, bits, channels) -> None:
    values = values_of(bits, channels)
    picture = read_picture(heic(tmp_path, values, bits))
    (line,) = losses_in(picture, tmp_path / "out.heic")
    assert line == "HEIF changes known pixels a little too; a .png keeps them exactly."
    mode, again = stored(encode(picture, tmp_path / "out.heic"))
    assert mode.endswith(f";{bits}")
    assert (mode.startswith("I"), mode.startswith("RGBA")) == (channels == 1, channels == 4)
    error = np.abs(np.atleast_3d(again).astype(int) - values) / 2**bits
    assert error.mean() < 0.004
    eight = Picture(np.rint(values / (2**bits - 1) * 255).astype(np.uint8)[..., :3])
    _, before = stored(encode(eight, tmp_path / "out.heic"))
    assert error.mean() < 1.2 * np.abs(np.atleast_3d(before).astype(int) - eight.color).mean() / 255 + 1e-3
    assert len(np.unique(np.atleast_3d(again)[..., 0])) > 300  # not 8 bits stretched


def test_what_fewer_bits_lose_is_said(tmp_path) -> None:
    picture = read_picture(heic(tmp_path, values_of(10), 10))
    assert "JPEG holds 8 bits a channel, the photo has 10; a .png, .tif or .heic keeps them." in losses_in(
        picture, tmp_path / "out.jpg"
    )
    deep = Picture(noise(9, 8, 3, depth=16))
    assert "HEIF holds 10 bits a channel, the photo has 16; a .png or .tif keeps them." in losses_in(
        deep, tmp_path / "out.heic"
    )
    assert stored(encode(deep, tmp_path / "out.heic"))[0] == "RGB;10"


def test_8_bits_are_8_bits(tmp_path) -> None:
    values = (values_of(10) // 4).astype(np.uint8)
    path = heic(tmp_path, values, 8)
    picture = read_picture(path)
    assert np.array_equal(picture.color, values)
    assert (picture.depth, picture.bits) == (8, 8)
    assert stored(encode(picture, tmp_path / "out.heic"))[0] == "RGB"
    with Image.open(path) as image:
        assert depth(image) == 8


def test_a_turned_photo_comes_upright_with_all_its_bits(tmp_path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    values = values_of(10)
    path = heic(tmp_path, values, 10, exif=exif.tobytes())
    with Image.open(path) as image:
        size = image.size
    picture = read_picture(path)
    assert picture.size == size[::-1] == (64, 48)
    assert np.array_equal(to_bits(picture.color, 10), np.rot90(values, -1))
    again = reread(encode(picture, tmp_path / "out.heic"), tmp_path, "heic")
    assert again.size == (64, 48)


def test_a_color_space_by_numbers_is_kept_or_its_loss_said(tmp_path) -> None:
    path = heic(tmp_path, values_of(10), 10, **HLG, matrix_coefficients=9)
    picture = read_picture(path)
    data = encode(picture, tmp_path / "out.heic")
    found = pillow_heif.open_heif(io.BytesIO(data)).info["nclx_profile"]
    assert {key: found[key] for key in HLG} == HLG
    (line,) = losses_in(picture, tmp_path / "out.png")
    assert line == (
        "PNG cannot hold the photo's color space, which is not sRGB, so its colors look different; a .heic keeps it."
    )
    assert encode(picture, tmp_path / "out.png")
    eight = read_picture(heic(tmp_path, (values_of(10) // 4).astype(np.uint8), 8, **HLG, matrix_coefficients=9))
    found = pillow_heif.open_heif(io.BytesIO(encode(eight, tmp_path / "out.heic"))).info["nclx_profile"]
    assert {key: found[key] for key in HLG} == HLG


def test_metadata_goes_along(tmp_path) -> None:
    exif = Image.Exif()
    exif[271] = "maker"
    picture = read_picture(heic(tmp_path, values_of(10), 10, exif=exif.tobytes(), icc_profile=b"any profile"))
    again = reread(encode(picture, tmp_path / "out.heic"), tmp_path, "heic")
    assert b"maker" in again.metadata["exif"]
    assert again.metadata["icc_profile"] == b"any profile"


def test_each_picture_of_a_file_is_read_with_its_own_depth(tmp_path) -> None:
    first, second = values_of(10), values_of(10)[::-1].copy()
    both = pillow_heif.from_bytes("RGB;10", (64, 48), first.tobytes())
    both.add_frombytes("RGB;10", (64, 48), second.tobytes())
    both.save(tmp_path / "burst.heic", bit_depth=10, matrix_coefficients=0, **LOSSLESS)
    for page, values in ((None, first), (1, first), (2, second)):
        picture = read_picture(tmp_path / "burst.heic", page)
        assert np.abs(to_bits(picture.color, 10).astype(int) - values).max() <= 2
        assert f"of which the result has number {page or 1} alone" in losses_in(picture, tmp_path / "out.png")[0]


def test_a_removal_keeps_the_known_pixels_and_fills_in_all_bits(tmp_path) -> None:
    values = values_of(10)
    mask = np.zeros((48, 64), np.uint8)
    mask[10:20, 10:20] = 255
    result = refiner.inpaint(heic(tmp_path, values, 10), mask, settings=refiner.Settings(refine=False))
    result.save(tmp_path / "out.png")
    kept = to_bits(read_picture(tmp_path / "out.png").color, 10)
    assert np.array_equal(kept[mask == 0], values[mask == 0])
    result.save(tmp_path / "out.heic")
    assert read_picture(tmp_path / "out.heic").bits == 10
