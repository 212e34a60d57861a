"""A page of a TIFF file of several replaced; every byte that belongs to another page stays as it is, where it is."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

from PIL import ExifTags

from refiner.images.exif import LONG, directory_at, laid, links, number, numbers

if TYPE_CHECKING:
    from refiner.images.exif import Directory

    Spans = set[tuple[int, int]]

_Tag = ExifTags.Base
_PIXELS = ((273, 279), (324, 325), (513, 514))  # tags of where strips, tiles or a JPEG begin, and of their sizes
_PLACE_AMONG_PAGES = (_Tag.NewSubfileType, _Tag.SubfileType, 297)  # the last one is the page's number
_SUB_IFDS = 330  # tag of further directories, such as those of thumbnails
MOST = 1 << 32  # bytes of a file


def order_of(file: bytes) -> str:
    """The byte order of a TIFF file, `<` or `>`."""
    return "<" if file[:2] == b"II" else ">"


def replaced(file: bytes, page: int, tags: Directory, strip: bytes) -> bytes:
    """Put a new page in place of another.

    The new page is added at the end. What the old one alone took is overwritten with zeros, as it shows what was
    removed; so no other page moves, and places that unknown tags name stay right.

    Args:
        file: a TIFF file, but no BigTIFF.
        page: which page to replace, from 0.
        tags: of the new page, in the file's byte order.
        strip: the pixels of the new page, which has no other strip.

    Raises:
        ValueError: the file would be larger than a TIFF can be.
        LookupError: it has fewer pages.
        struct.error: it is cut short.
    """
    order, stream = order_of(file), io.BytesIO(file)
    pages = list(links(stream))
    old, following = directory_at(stream, order, pages[page].place, set())
    own = _spans(stream, order, pages[page].place)
    others: Spans = {(0, 8)}
    for other in pages[:page] + pages[page + 1 :]:
        others |= _spans(stream, order, other.place)
    data = bytearray(file)
    for start, end in _without(own, others, len(data)):
        data[start:end] = bytes(end - start)
    last = max(end for _, end in others)
    if not any(data[last:]):
        del data[last:]
    data += bytes(len(data) % 2)  # each part begins at an even place
    tags = {**tags, **{tag: old[tag] for tag in _PLACE_AMONG_PAGES if tag in old}}
    tags[_Tag.StripOffsets] = number(order, LONG, len(data))
    data += strip + bytes(len(strip) % 2)
    place = len(data)
    directory = bytearray(laid(order, tags, place))
    struct.pack_into(order + "I", directory, 2 + 12 * len(tags), following)
    data += directory
    if len(data) >= MOST:
        raise ValueError("with its other pages it would be larger than 4 GB")
    struct.pack_into(order + "I", data, pages[page].at, place)
    return bytes(data)


def _spans(file: io.BytesIO, order: str, place: int) -> Spans:
    """Which bytes a page takes, with its thumbnails: from and to."""
    spans: Spans = set()
    waiting, seen = [place], set()
    while waiting:
        place = waiting.pop()
        seen.add(place)
        directory, _ = directory_at(file, order, place, spans)
        for starts, sizes in _PIXELS:
            pieces = zip(numbers(order, directory.get(starts)), numbers(order, directory.get(sizes)), strict=False)
            spans |= {(start, start + size) for start, size in pieces}
        waiting += [below for below in numbers(order, directory.get(_SUB_IFDS)) if below not in seen]
    return spans


def _without(own: Spans, others: Spans, length: int) -> Spans:
    """The parts of spans that no other covers, of a file of so many bytes."""
    left = {(start, min(end, length)) for start, end in own}
    for low, high in others:
        cut: Spans = set()
        for start, end in left:
            cut |= {(start, min(end, low)), (max(start, high), end)} if start < high and low < end else {(start, end)}
        left = {(start, end) for start, end in cut if start < end}
    return left
