"""A page of a TIFF file of several replaced; every byte that belongs to another page stays as it is, where it is."""

from __future__ import annotations

import io
import struct
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from PIL import ExifTags

from refiner.images.exif import LONG, directory_at, laid, links, number, numbers

if TYPE_CHECKING:
    from refiner.images.exif import Directory, Link

Spans: TypeAlias = "set[tuple[int, int]]"

_Tag = ExifTags.Base
_HEAD = 8  # bytes before the first page
_PIXELS = ((273, 279), (324, 325), (513, 514))  # tags of where strips, tiles or a JPEG begin, and of their sizes
_PLACE_AMONG_PAGES = (_Tag.NewSubfileType, _Tag.SubfileType, 297)  # the last one is the page's number
_SMALLER = 1  # a bit of `NewSubfileType`
_SUB_IFDS = 330  # tag of further directories, such as those of thumbnails
MOST = 1 << 32  # bytes of a file


def order_of(file: bytes) -> str:
    """The byte order of a TIFF file, `<` or `>`."""
    return "<" if file[:2] == b"II" else ">"


def is_big(file: bytes) -> bool:
    """Whether a TIFF file is a BigTIFF, which is laid otherwise."""
    return 43 in (file[2], file[3])  # noqa: PLR2004  its number, in either byte order


def smaller_copies(file: bytes) -> list[int]:
    """The numbers, from 1, of the pages that a TIFF file calls smaller copies of a picture.

    Raises:
        ValueError: where its pages lie cannot be told, so that none can be replaced.
        struct.error: the same.
    """
    order = order_of(file)
    kinds = [numbers(order, page.tags.get(_Tag.NewSubfileType)) for page in _pages_of(file)]
    return [page for page, kind in enumerate(kinds, start=1) if kind and kind[0] & _SMALLER]


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
    order, pages = order_of(file), _pages_of(file)
    old = pages.pop(page)
    others = {(0, _HEAD)}.union(*(other.spans for other in pages))
    data = bytearray(file)
    for start, end in _without(old.spans, others, len(data)):
        data[start:end] = bytes(end - start)
    last = max(end for _, end in others)
    if not data[last:].strip(b"\0"):
        del data[last:]
    data += bytes(len(data) % 2)  # each part begins at an even place
    tags = {**tags, **{tag: old.tags[tag] for tag in _PLACE_AMONG_PAGES if tag in old.tags}}
    tags[_Tag.StripOffsets] = number(order, LONG, len(data))
    data += strip + bytes(len(strip) % 2)
    place = len(data)
    directory = bytearray(laid(order, tags, place))
    struct.pack_into(order + "I", directory, 2 + 12 * len(tags), old.following)
    data += directory
    if len(data) >= MOST:
        raise ValueError("with its other pages it would be larger than 4 GB")
    struct.pack_into(order + "I", data, old.link.at, place)
    return bytes(data)


class _Page(NamedTuple):
    """A page of a file.

    Attributes:
        link: where it is said to lie.
        tags: of its directory.
        following: where the next page's directory lies; 0 after the last.
        spans: which bytes it takes, from and to, its thumbnails' included.
    """

    link: Link
    tags: Directory
    following: int
    spans: Spans


def _pages_of(file: bytes) -> list[_Page]:
    order, stream, pages = order_of(file), io.BytesIO(file), []
    for link in list(links(stream)):
        tags, following = directory_at(stream, order, link.place, set())
        pages.append(_Page(link, tags, following, _spans(stream, order, link.place)))
    return pages


def _spans(file: io.BytesIO, order: str, place: int) -> Spans:
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


def _without(own: Spans, others: Spans, length: int) -> list[tuple[int, int]]:
    """The parts of spans that no other covers, of a file of so many bytes."""
    taken, left, first = _merged(others), [], 0
    for low, high in _merged(own):
        start, end = low, min(high, length)
        while first < len(taken) and taken[first][1] <= start:
            first += 1
        for low_taken, high_taken in islice(taken, first, None):
            if low_taken >= end:
                break
            left.append((start, low_taken))
            start = high_taken
        left.append((start, end))
    return [(start, end) for start, end in left if start < end]


def _merged(spans: Spans) -> list[tuple[int, int]]:
    """The same bytes in spans that neither touch nor overlap, in order."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged
