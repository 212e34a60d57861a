"""Opening changes nothing for the rest of the process: Python's warning filters least of all, which threads share."""

from __future__ import annotations

import io
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from picture_files import noise, saved
from PIL import Image

from refiner import InputError
from refiner.images.codecs.pillow import open_file
from refiner.images.opening import opened
from refiner.images.reading import read_picture, read_size

ROWS_PER_STRIP = 278


@pytest.fixture
def photo(tmp_path):
    return saved(tmp_path, Image.fromarray(noise(20, 30, 3)))


def odd_tiff(tmp_path):
    """A TIFF with two values in a tag that holds one, of which Pillow warns and takes the first."""
    path = tmp_path / "odd.tif"
    data = io.BytesIO()
    Image.fromarray(noise(20, 30, 3)).save(data, "TIFF", tiffinfo={ROWS_PER_STRIP: 20})
    entry = ROWS_PER_STRIP.to_bytes(2, "little") + (4).to_bytes(2, "little")  # the tag, and the type of its values
    head, found, tail = data.getvalue().partition(entry + (1).to_bytes(4, "little"))
    assert found
    there = len(data.getvalue())
    path.write_bytes(
        head + entry + (2).to_bytes(4, "little") + there.to_bytes(4, "little") + tail[4:]
        + (20).to_bytes(4, "little") * 2
    )  # fmt: skip
    return path


def test_the_filters_stay_as_they_are_while_a_file_is_open(photo) -> None:
    filters, content = warnings.filters, list(warnings.filters)
    with ThreadPoolExecutor(1) as other, opened(photo, "image"):
        assert other.submit(lambda: warnings.filters).result() is filters
        assert filters == content
        with pytest.warns(UserWarning, match="of another thread"):
            other.submit(warnings.warn, "of another thread", UserWarning, 1).result()
    assert warnings.filters is filters
    assert filters == content


def test_the_filters_outlive_threads_whose_files_are_open_at_once(photo) -> None:
    """The one that opened first closes first, so neither puts back what it found."""
    filters, content = warnings.filters, list(warnings.filters)
    first_is_open, second_is_open, first_is_closed = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        with opened(photo, "image"):
            first_is_open.set()
            assert second_is_open.wait(10)
        first_is_closed.set()

    def second() -> None:
        assert first_is_open.wait(10)
        with opened(photo, "image"):
            second_is_open.set()
            assert first_is_closed.wait(10)

    try:
        with ThreadPoolExecutor(2) as threads:
            for done in [threads.submit(first), threads.submit(second)]:
                done.result()
        assert warnings.filters is filters
        assert filters == content
    finally:
        warnings.filters = filters


@pytest.mark.parametrize("limit", [600, 599, 300])
def test_large_but_allowed_sizes_are_read_without_a_word(photo, monkeypatch, limit) -> None:
    """Of more pixels than the limit Pillow would warn, and here warnings are errors."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert read_picture(photo).size == read_size(photo) == (20, 30)


def test_more_than_twice_the_limit_is_refused(photo, monkeypatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 299)
    with pytest.raises(InputError, match=r"photo\.png: claims more than 0 megapixels"):
        read_picture(photo)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read_picture(photo).size == (20, 30)


def test_warnings_of_odd_metadata_reach_the_caller(tmp_path) -> None:
    path = odd_tiff(tmp_path)
    with pytest.warns(UserWarning, match="tag 278 had too many entries: 2, expected 1"):
        assert read_picture(path).size == (20, 30)


def test_where_warnings_are_errors_odd_metadata_is_an_error_of_one_line(tmp_path) -> None:
    with pytest.raises(InputError, match=r"odd\.tif: is damaged or cut short \(.*tag 278"):
        read_picture(odd_tiff(tmp_path))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp", "gif", "ppm", "tga", "jp2", "avif", "ico"])
def test_files_are_opened_as_pillow_opens_them(tmp_path, suffix) -> None:
    path = saved(tmp_path, Image.fromarray(noise(20, 30, 3)), f"photo.{suffix}")
    with Image.open(path) as expected, open_file(path) as image:
        assert type(image) is type(expected)
        assert (image.format, image.mode, image.size) == (expected.format, expected.mode, expected.size)
        assert image.filename == expected.filename
        assert np.array_equal(image, expected)
        file = image.fp
    assert file is None or file.closed


def test_a_file_that_cannot_be_opened_is_closed(tmp_path) -> None:
    """An open one would be a ResourceWarning, which is an error here."""
    for name, content in (("words.txt", b"words"), ("cut.png", b"\x89PNG\r\n\x1a\n\0\0"), ("cut.jpg", b"\xff\xd8\xff")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            read_picture(tmp_path / name)


def test_only_formats_that_are_meant_are_tried(tmp_path, monkeypatch) -> None:
    """An EPS would reach Ghostscript, a program that draws whatever the file tells it to."""
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (20, 10), "red").save(path, "EPS")
    Image.init()
    tried = []
    monkeypatch.setitem(Image.OPEN, "EPS", (lambda *_: tried.append("EPS"), None))
    with pytest.raises(InputError, match="is not an image that can be read"):
        read_picture(path)
    assert not tried
