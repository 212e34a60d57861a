"""Files of several pages: one is read, and put back among the others, of which no byte changes."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from picture_files import reread, saved
from PIL import Image, ImageCms

from refiner import InputError
from refiner.images.codecs.table import FORMATS
from refiner.images.masks import read_mask
from refiner.images.picture import Picture
from refiner.images.reading import read_picture, read_rgb, read_size
from refiner.images.writing import encode, losses_in

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
STRIPS, SUB_IFDS = 273, 330
COLORS = [(200, 30, 40), (10, 220, 50), (5, 60, 230)]


def noise(*shape: int, depth: int = 8) -> np.ndarray:
    """Values that no other shape's begin with."""
    kind = np.uint16 if depth == 16 else np.uint8
    return np.random.default_rng(sum(shape)).integers(0, 2**depth, shape, dtype=kind)


class Page:
    """A page of a TIFF that is made here: uncompressed, in one strip: its own, or that of another."""

    def __init__(self, values: np.ndarray, tags: dict[int, tuple[int, bytes]] | None = None, strip: int | None = None):
        self.values, self.tags, self.strip = values, tags or {}, strip


def made(pages: list[Page], order: str = "<", *, big: bool = False, loose: bytes = b"") -> bytes:
    """A TIFF file's bytes, written from the format's description; `loose` belongs to no page."""
    word, count, inline = ("Q", "Q", 8) if big else ("I", "H", 4)
    data = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42))
    data += struct.pack(order + "HHQ", 8, 0, 0) if big else struct.pack(order + "I", 0)
    link, starts = len(data) - inline, []
    data += loose
    for page in pages:
        height, width, channels = page.values.shape
        start, bits = len(data), 8 * page.values.itemsize
        data += page.values.astype(page.values.dtype.newbyteorder(order)).tobytes() if page.strip is None else b""
        starts.append(start if page.strip in (None, -1) else starts[page.strip])
        numbers = {256: width, 257: height, 259: 1, 262: 2 if channels == 3 else 1, STRIPS: starts[-1], 277: channels}
        numbers |= {278: height, 279: page.values.nbytes}
        tags = {tag: (4, struct.pack(order + "I", number)) for tag, number in numbers.items()}
        tags[258] = (3, struct.pack(f"{order}{channels}H", *[bits] * channels))
        tags |= page.tags
        sizes = {2: 1, 3: 2, 4: 4, 5: 8, 7: 1}
        entries = b""
        for tag, (kind, value) in sorted(tags.items()):
            held = value.ljust(inline, b"\0")
            if len(value) > inline:
                data += bytes(len(data) % 2)
                held = struct.pack(order + word, len(data))
                data += value
            entries += struct.pack(order + "HH" + word, tag, kind, len(value) // sizes[kind]) + held
        data += bytes(len(data) % 2)
        struct.pack_into(order + word, data, link, len(data))
        data += struct.pack(order + count, len(tags)) + entries
        link = len(data)
        data += bytes(inline)
    return bytes(data)


def three_pages(order: str = "<", **options) -> tuple[list[np.ndarray], bytes]:
    values = [noise(20, 31, 3), noise(9, 14, 1, depth=16), noise(17, 12, 3, depth=16)]
    named = [
        {285: (2, f"page {number}\0".encode()), 297: (3, struct.pack(order + "HH", number, 3))} for number in range(3)
    ]
    named[0] |= {
        34675: (7, PROFILE),
        282: (5, struct.pack(order + "II", 300, 1)),
        283: (5, struct.pack(order + "II", 300, 1)),
    }
    return values, made([Page(*both) for both in zip(values, named, strict=True)], order, **options)


def written(path, page: int, values: np.ndarray) -> bytes:
    """The file with a page replaced by other values, as a result is."""
    picture = read_picture(path, page)
    filled = picture.filled(Picture(values).rgb(), np.ones(picture.size, dtype=bool))
    return encode(filled, path)


def frames_of(data: bytes) -> list[tuple[dict, np.ndarray]]:
    """Tags and values of each page, by Pillow."""
    found = []
    with Image.open(io.BytesIO(data)) as image:
        for page in range(image.n_frames):
            image.seek(page)
            found.append((dict(image.tag_v2), np.array(image)))
    return found


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])  # Pillow knows no other
def test_each_page_of_a_tiff_is_read_with_its_own_depth_and_metadata(tmp_path, order, big) -> None:
    values, data = three_pages(order, big=big)
    path = tmp_path / "scan.tif"
    path.write_bytes(data)
    for number, expected in enumerate(values, start=1):
        picture = read_picture(path, number)
        assert np.array_equal(picture.color, expected)
        assert picture.depth == 8 * expected.itemsize
        assert (picture.pages.number, picture.pages.count) == (number, 3)
        assert ("icc_profile" in picture.metadata) is (number == 1)
        assert picture.metadata["dpi"] == ((300, 300) if number == 1 else (1, 1))  # which Pillow says where none is
        assert big or f"page {number - 1}".encode() in picture.metadata["exif"]
        assert read_size(path, number) == expected.shape[:2]
    with Image.open(path) as image:  # turned by the caller
        image.seek(2)
        assert np.array_equal(read_picture(image).color, values[2])


@pytest.mark.parametrize("page", [1, 2, 3])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_page_is_replaced_and_no_byte_of_the_others_changes(tmp_path, order, page) -> None:
    values, data = three_pages(order, loose=b"of an unknown tag")
    path = tmp_path / "scan.tif"
    path.write_bytes(data)
    assert losses_in(read_picture(path, page), path) == []
    new = np.full_like(values[page - 1], 77)
    result = written(path, page, new)
    before, after = frames_of(data), frames_of(result)
    assert len(after) == 3
    assert b"of an unknown tag" in result
    for number in range(3):
        if number == page - 1:
            continue
        assert after[number][0] == before[number][0]  # places of the pixels included
        assert np.array_equal(after[number][1], before[number][1])
        start, length = before[number][0][STRIPS][0], values[number].nbytes
        assert result[start : start + length] == data[start : start + length]
    (tmp_path / "again.tif").write_bytes(result)
    again = read_picture(tmp_path / "again.tif", page)
    assert np.array_equal(again.color, new)
    assert after[page - 1][0][285] == f"page {page - 1}"
    assert after[page - 1][0][297] == (page - 1, 3)
    assert again.metadata == read_picture(path, page).metadata
    # What was removed is in the file no more.
    assert values[page - 1].astype(values[page - 1].dtype.newbyteorder(order)).tobytes()[:64] not in result


def test_compressed_pages_of_other_kinds_stay_as_they_are(tmp_path) -> None:
    pages = [
        Image.fromarray(noise(40, 30, 3)),
        Image.fromarray(noise(33, 21)).convert("1"),
        Image.fromarray(noise(8, 9)),
    ]
    path = tmp_path / "fax.tif"
    pages[0].save(path, compression="tiff_lzw", save_all=True, append_images=pages[1:])
    before = frames_of(path.read_bytes())
    result = written(path, 2, np.zeros((33, 21, 1), dtype=np.uint8))
    after = frames_of(result)
    assert [tags for tags, _ in after][::2] == [tags for tags, _ in before][::2]
    assert after[1][1].max() == 0
    for number in (0, 2):
        assert np.array_equal(after[number][1], np.asarray(pages[number]))


def test_pages_that_share_their_pixels_keep_them(tmp_path) -> None:
    values = noise(12, 10, 3)
    path = tmp_path / "shared.tif"
    path.write_bytes(made([Page(values), Page(values, strip=0)]))
    for page in (1, 2):
        after = frames_of(written(path, page, np.zeros_like(values)))
        assert np.array_equal(after[2 - page][1], values)
        assert after[page - 1][1].max() == 0


def test_the_thumbnail_of_a_replaced_page_goes(tmp_path) -> None:
    """It would still show what was removed; that of another page stays."""
    small = noise(6, 5, 3)
    entries = {256: 5, 257: 6, STRIPS: 8, 279: small.nbytes}
    below = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", tag, 4, 1, n) for tag, n in entries.items())
    loose = small.tobytes() + below + bytes(4)
    thumbnail = {SUB_IFDS: (4, struct.pack("<I", 8 + small.nbytes))}
    path = tmp_path / "thumbnail.tif"
    path.write_bytes(made([Page(noise(24, 20, 3), thumbnail), Page(noise(9, 9, 3))], loose=loose))
    assert small.tobytes() not in written(path, 1, np.zeros((24, 20, 3), dtype=np.uint8))
    assert small.tobytes() in written(path, 2, np.zeros((9, 9, 3), dtype=np.uint8))


@pytest.mark.parametrize("tag", [SUB_IFDS, 0x8769])  # of thumbnails, of EXIF data
def test_other_pages_that_are_damaged_are_not_kept_and_that_is_said(tmp_path, tag) -> None:
    path = tmp_path / "damaged.tif"
    path.write_bytes(made([Page(noise(24, 20, 3)), Page(noise(9, 9, 3), {tag: (4, struct.pack("<I", 1 << 30))})]))
    picture = read_picture(path, 1)
    assert losses_in(picture, path) == [
        "The photo's file holds 2 frames or pages, of which the result has number 1 alone."
    ]
    assert np.array_equal(reread(encode(picture, path), tmp_path, "tif").color, picture.color)


def test_pages_of_many_strips_are_told_apart(tmp_path) -> None:
    """In one that has a strip for each row, strips alternate with those of the other."""
    values = [noise(200, 7, 3), noise(200, 8, 3)]
    data, places = b"", ([], [])
    for row in range(200):
        for page in range(2):
            places[page].append(8 + len(data))
            data += values[page][row].tobytes()
    tags = [
        {
            STRIPS: (4, struct.pack("<200I", *places[page])),
            279: (4, struct.pack("<200I", *[row] * 200)),
            278: (4, b"\1\0\0\0"),
        }
        for page, row in enumerate((21, 24))
    ]
    path = tmp_path / "strips.tif"
    path.write_bytes(made([Page(values[0], tags[0], strip=-1), Page(values[1], tags[1], strip=-1)], loose=data))
    for page in (1, 2):
        after = frames_of(written(path, page, np.zeros_like(values[page - 1])))
        assert np.array_equal(after[2 - page][1], values[2 - page])
        assert after[page - 1][1].max() == 0


def test_smaller_copies_that_stay_are_told(tmp_path) -> None:
    path = tmp_path / "pyramid.tif"
    smaller = {254: (4, struct.pack("<I", 1))}
    path.write_bytes(made([Page(noise(24, 20, 3)), Page(noise(12, 10, 3), smaller)]))
    line = "Page 2 of the photo's file is a smaller copy, which stays and may show what was removed."
    assert losses_in(read_picture(path, 1), path) == [line]
    assert losses_in(read_picture(path, 2), path) == []
    assert frames_of(written(path, 2, np.zeros((12, 10, 3), dtype=np.uint8)))[1][0][254] == 1


def test_large_pages_are_refused_as_large_files_are(tmp_path, monkeypatch) -> None:
    path = tmp_path / "scan.tif"
    path.write_bytes(made([Page(noise(5, 6, 3)), Page(noise(20, 30, 3))]))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)
    assert read_picture(path, 2).size == (20, 30)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 299)
    assert read_picture(path, 1).size == (5, 6)
    with pytest.raises(InputError, match="claims more than 0 megapixels"):
        read_picture(path, 2)


def test_a_file_does_not_grow_with_every_round(tmp_path) -> None:
    path = tmp_path / "scan.tif"
    path.write_bytes(three_pages()[1])
    sizes = []
    for value in range(4):
        path.write_bytes(written(path, 2, np.full((9, 14, 1), value, dtype=np.uint16)))
        sizes.append(path.stat().st_size)
    assert max(sizes[1:]) - min(sizes[1:]) <= 8


def test_a_page_in_another_format_is_alone_and_that_is_said(tmp_path) -> None:
    values, data = three_pages()
    path = tmp_path / "scan.tif"
    path.write_bytes(data)
    picture = read_picture(path, 3)
    line = "The photo's file holds 3 frames or pages, of which the result has number 3 alone; a .tif keeps the others."
    assert losses_in(picture, tmp_path / "out.png") == [line]
    assert np.array_equal(reread(encode(picture, tmp_path / "out.png"), tmp_path, "png").color, values[2])


def test_a_bigtiff_gives_the_page_alone(tmp_path) -> None:
    values, data = three_pages(big=True)
    path = tmp_path / "scan.tif"
    path.write_bytes(data)
    picture = read_picture(path, 2)
    (line,) = losses_in(picture, path)
    assert line == "The photo's file holds 3 frames or pages, of which the result has number 2 alone."
    assert np.array_equal(reread(encode(picture, path), tmp_path, "tif").color, values[1])


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_a_frame_of_an_animation_is_a_still_picture(tmp_path, suffix) -> None:
    frames = [Image.new("RGB", (16, 12), color) for color in COLORS]
    options = {"lossless": True} if suffix == "webp" else {}
    path = saved(tmp_path, frames[0], f"moving.{suffix}", save_all=True, append_images=frames[1:], **options)
    for number, color in enumerate(COLORS, start=1):
        picture = read_picture(path, number)
        assert (picture.color == np.array(color)).all()
        line = f"The photo's file holds 3 frames or pages, of which the result has number {number} alone."
        assert line in losses_in(picture, path if suffix != "gif" else tmp_path / "out.png")
        out = encode(picture, tmp_path / f"out.{suffix if suffix != 'gif' else 'png'}")
        assert getattr(Image.open(io.BytesIO(out)), "n_frames", 1) == 1


def test_page_numbers_out_of_range(tmp_path) -> None:
    path = tmp_path / "scan.tif"
    path.write_bytes(three_pages()[1])
    for page in (0, 4, -1):
        with pytest.raises(InputError, match=rf"holds 3 frames or pages, so `page={page}` is none; expected 1 to 3\.$"):
            read_picture(path, page)
    single = saved(tmp_path, Image.fromarray(noise(9, 8, 3)))
    assert read_picture(single, 1).pages is None
    with pytest.raises(InputError, match=r"photo\.png: holds a single picture, so `page=2` is none of its pages"):
        read_picture(single, 2)
    with Image.open(single) as image, pytest.raises(InputError, match="`page`: is of files, but the image is a PIL"):
        read_picture(image, 1)
    with pytest.raises(InputError, match="`page`: is of files, but the image is an array"):
        read_picture(noise(9, 8, 3), 1)


def test_who_can_choose_a_page_is_told_so(tmp_path) -> None:
    path = tmp_path / "scan.tif"
    path.write_bytes(three_pages()[1])
    start = "holds 3 frames or pages, expected a single picture; "
    with pytest.raises(InputError, match=start + "choose one by `page=N`, from 1 to 3"):
        read_picture(path, choosable=True)
    for read in (read_picture, read_rgb, lambda file: read_mask(file, Picture(noise(20, 31, 3)))):
        with pytest.raises(InputError, match=start + "save one of them as a file of its own"):
            read(path)


def test_the_second_picture_of_a_phones_jpeg_is_left_out_and_that_is_said(tmp_path) -> None:
    frames = [Image.new("RGB", (32, 24), color) for color in COLORS[:2]]
    path = saved(tmp_path, frames[0], "phone.jpg", format="MPO", save_all=True, append_images=frames[1:])
    picture = read_picture(path)
    assert np.abs(picture.color.astype(int) - COLORS[0]).max() <= 4
    line = "The photo's file holds 2 pictures, of which the result has number 1 alone."
    assert line in losses_in(picture, path)
    assert np.abs(read_picture(path, 2).color.astype(int) - COLORS[1]).max() <= 4
    with Image.open(io.BytesIO(encode(picture, path))) as out:
        assert out.format == "JPEG"


def test_layers_are_no_pages(tmp_path) -> None:
    path = saved(tmp_path, Image.fromarray(noise(32, 32, 3)), "icon.ico", sizes=[(16, 16), (32, 32)])
    assert read_picture(path).size == (32, 32)
    with pytest.raises(InputError, match="holds a single picture"):
        read_picture(path, 2)
    assert not [kind.name for kind in FORMATS if kind.joint_frames and kind.main_frame]


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.9])
def test_pages_that_are_cut_short_are_one_line(tmp_path, cut) -> None:
    data = three_pages()[1]
    path = tmp_path / "cut.tif"
    path.write_bytes(data[: int(cut * len(data))])
    with pytest.raises(InputError, match=r"cut\.tif: is damaged or cut short"):
        read_picture(path, 1)
