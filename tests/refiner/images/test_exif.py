"""Bytes of EXIF data that are not ours stay as they are; what would show or turn the photo goes."""

from __future__ import annotations

import io
import struct
import subprocess
import sys

import numpy as np
import pytest
from picture_files import noise, saved
from PIL import Image

from refiner.images import exif
from refiner.images.orientation import Turn, with_turn
from refiner.images.picture import Picture
from refiner.images.reading import read_picture
from refiner.images.writing import encode

ORDERS = ("<", ">")
NOTE = b"Maker\0" + struct.pack("<I", 4711) + bytes(range(50))  # which no other program takes apart


def camera(
    order: str, *, orientation: int | None = None, thumbnail: bytes = b"", further: exif.Directory | None = None
):
    """EXIF data as cameras write it: odd types, a maker's note, a thumbnail behind it all."""

    def packed(kind: int, form: str, *values: int) -> exif.Value:
        return exif.Value(kind, struct.pack(order + form, *values))

    exposure = {0x829D: packed(5, "2I", 28, 10), 0x927C: exif.Value(7, NOTE), 0xA002: packed(4, "I", 30)}
    gps = {0: packed(3, "4H", 2, 3, 0, 0), 5: packed(3, "H", 1), 2: packed(5, "6I", 48, 1, 51, 1, 3050, 100)}
    first = {
        0x010F: exif.Value(2, b"Maker of cameras\0"),
        0x011A: packed(5, "2I", 300, 1),
        0x0128: packed(3, "H", 2),
        0x8769: exif.Value(4, b"", exposure),
        0x8825: exif.Value(4, b"", gps),
        **(further or {}),
    }
    if orientation is not None:
        first[0x0112] = packed(3, "H", orientation)
    data = bytearray(exif.written(order, first))
    if thumbnail:
        # The directory of the thumbnail lies behind, and the first one points to it.
        (start,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, start)
        struct.pack_into(order + "I", data, start + 2 + 12 * count, len(data))
        at = len(data) + 2 + 2 * 12 + 4
        data += struct.pack(order + "H", 2) + struct.pack(order + "HHII", 513, 4, 1, at)
        data += struct.pack(order + "HHII", 514, 4, 1, len(thumbnail)) + bytes(4) + thumbnail
    return exif.PREFIX + bytes(data)


def a_jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (255, 0, 0)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("orientation", [None, 1])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_nothing_changes_where_nothing_has_to(tmp_path, order, orientation, suffix) -> None:
    blob = camera(order, orientation=orientation)
    path = saved(tmp_path, Image.fromarray(noise(20, 30, 3)), f"in.{suffix}", exif=blob)
    with Image.open(io.BytesIO(encode(read_picture(path), tmp_path / f"out.{suffix}"))) as out:
        assert out.info["exif"].removeprefix(exif.PREFIX) == blob.removeprefix(exif.PREFIX)


@pytest.mark.parametrize("order", ORDERS)
def test_orientation_alone_is_patched(tmp_path, order) -> None:
    blob = camera(order, orientation=6)
    path = saved(tmp_path, Image.fromarray(noise(20, 30, 3)), "in.jpg", exif=blob)
    picture = read_picture(path)
    assert picture.size == (30, 20)
    assert picture.metadata["exif"] == camera(order, orientation=1)


@pytest.mark.parametrize("order", ORDERS)
def test_a_jpeg_stored_as_it_came_has_its_exif_as_it_came(tmp_path, order) -> None:
    blob = camera(order, orientation=6)
    path = saved(tmp_path, Image.fromarray(noise(20, 30, 3)), "in.jpg", exif=blob)
    with Image.open(io.BytesIO(encode(read_picture(path), tmp_path / "out.jpg"))) as out:
        assert out.size == (30, 20)  # to be turned when it is shown
        assert out.info["exif"] == blob


@pytest.mark.parametrize("order", ORDERS)
def test_an_orientation_that_was_not_there_is_added_and_types_stay(order) -> None:
    added = exif.with_orientation(camera(order), 8)
    assert exif.parsed(added) == exif.parsed(camera(order, orientation=8))


@pytest.mark.parametrize("blob", [None, b"", b"Exif\0\0no TIFF", camera("<")[:20]])
def test_a_turn_is_told_whatever_the_rest_was(blob) -> None:
    assert exif.parsed(with_turn(blob, Turn.ROTATE_90))[1][0x0112].data.strip(b"\0") == b"\x08"


@pytest.mark.parametrize("order", ORDERS)
def test_the_thumbnail_goes_and_nothing_else_moves(order) -> None:
    assert exif.upright(camera(order, thumbnail=a_jpeg())) == camera(order)


@pytest.mark.parametrize("order", ORDERS)
def test_a_thumbnail_in_between_is_blanked_where_it_lies(order) -> None:
    plain = camera(order)
    blob = camera(order, thumbnail=a_jpeg()) + b"kept"
    after = exif.upright(blob)
    assert len(after) == len(plain)  # what no value holds behind it goes with it
    hidden = plain + bytes(10) + a_jpeg()  # that nothing points to
    assert exif.upright(hidden) == plain


@pytest.mark.parametrize("order", ORDERS)
def test_edits_that_tell_of_the_photo_as_it_was_go(order) -> None:
    secret = {700: exif.Value(1, b"<x:xmpmeta>crop</x:xmpmeta>"), 34377: exif.Value(7, b"8BIM" + a_jpeg())}
    after = exif.upright(camera(order, further=secret))
    assert b"xmpmeta" not in after
    assert b"\xff\xd8\xff" not in after
    assert exif.parsed(after) == exif.parsed(camera(order))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("depth", [8, 16])
def test_a_tiff_keeps_types_and_bytes_and_gives_them_on(tmp_path, order, depth) -> None:
    blob = camera(order)
    values = noise(9, 8, 3, depth=depth)
    path = tmp_path / "photo.tif"
    path.write_bytes(encode(Picture(values, metadata={"exif": blob, "dpi": (300.0, 300.0)}), path))
    read = read_picture(path)
    assert np.array_equal(read.color, values)
    assert read.metadata["dpi"] == (300, 300)
    _, expected = exif.parsed(blob)
    resolution = {0x011A, 0x0128}  # a TIFF's own
    assert exif.parsed(read.metadata["exif"]) == (order, {t: v for t, v in expected.items() if t not in resolution})


def test_opencv_is_silent_on_tags_that_it_does_not_know(tmp_path, capfd) -> None:
    blob = camera("<", further={18246: exif.Value(3, b"\5\0")})  # a rating, as raw developers write it
    path = tmp_path / "photo.tif"
    path.write_bytes(encode(Picture(noise(9, 8, 3, depth=16), metadata={"exif": blob}), path))
    read_picture(path)
    assert capfd.readouterr().err == ""


def test_avif_keeps_all_but_the_orientation_which_it_has_elsewhere(tmp_path) -> None:
    path = saved(tmp_path, Image.fromarray(noise(20, 30, 3)), "in.jpg", exif=camera("<", orientation=8))
    with Image.open(io.BytesIO(encode(read_picture(path), tmp_path / "out.avif"))) as out:
        assert exif.parsed(out.info["exif"]) == exif.parsed(camera("<"))
        assert out.size == (20, 30)


@pytest.mark.parametrize("length", range(6, 120, 3))
def test_cut_short_it_is_dropped_or_kept_but_harmless(tmp_path, length) -> None:
    blob = camera("<", orientation=3)[:length]
    path = saved(tmp_path, Image.fromarray(noise(9, 9, 3)), "in.png", exif=blob)
    encode(read_picture(path), tmp_path / "out.png")
    encode(read_picture(path), tmp_path / "out.tif")


def test_a_directory_that_points_to_itself_ends() -> None:
    data = bytearray(camera("<"))
    spot = data.index(struct.pack("<HHI", 0x8769, 4, 1)) + 8
    struct.pack_into("<I", data, spot, 8)
    assert 0x8769 not in exif.parsed(bytes(data))[1]


def test_the_command_line_keeps_them_too(tmp_path, photo_files) -> None:
    blob = camera(">", orientation=1)
    photo = tmp_path / "camera.jpg"
    Image.open(photo_files[0]).save(photo, exif=blob)
    out = tmp_path / "out.jpg"
    command = [sys.executable, "-m", "refiner", "inpaint", photo, photo_files[1], "-o", out, "--steps", "1"]
    subprocess.run([str(word) for word in command], check=True, capture_output=True)
    with Image.open(out) as written:
        assert written.info["exif"] == blob
