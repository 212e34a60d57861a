"""EXIF data as bytes: a photo's own stay as they are, but for what would be wrong in its result.

EXIF data is a TIFF file without pixels: directories of tagged values, the first of which points to others. Where a
file holds it in one piece, as all formats but TIFF do, it is patched in place: every other byte stays where it is, also
those of makers' notes, whose inner offsets count from the start. From and to a TIFF, whose own directory it is part of,
values move, and keep their types and bytes.
"""

from __future__ import annotations

import io
import os
import struct
from dataclasses import dataclass
from itertools import islice
from typing import IO, TYPE_CHECKING, NamedTuple, TypeAlias

from PIL import ExifTags

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

PREFIX = b"Exif\0\0"
ORIENTATION = int(ExifTags.Base.Orientation)
SHORT, LONG, RATIONAL, BYTES = 3, 4, 5, 7  # types of values
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}  # bytes of one, by type
_ORDERS = {b"II": "<", b"MM": ">"}
_HEAD = 8  # bytes before the first directory
_CLASSIC, _BIG = 42, 43  # TIFF's numbers, the second for files of more than 4 GB
_BELOW = {0x8769, 0x8825, 0xA005}  # tags that point to a directory: of the exposure, of GPS data, of interoperability
# Tags that hold the photo once more, small, or tell what was done to it: XMP data and Photoshop's resources.
_COPIES = frozenset({700, 34377})
# Tags that describe how a TIFF file is stored, not the picture: they would be wrong in another file.
STRUCTURE = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284, 288, 289, 290, 291}
    | {292, 293, 296, 282, 283, 297, 301, 317, 318, 319, 320, 321, 322, 323, 324, 325, 330, 338, 339, 340, 341, 347}
    | {512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, 700, 34377, 34675}
)
_JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True)
class Value:
    """A value of a directory.

    Attributes:
        kind: its type, as TIFF numbers them.
        data: its bytes, in the byte order of its file; empty where it is a directory.
        below: the directory that it points to, or None.
    """

    kind: int
    data: bytes
    below: Directory | None = None


Directory: TypeAlias = "dict[int, Value]"


class Link(NamedTuple):
    """Where a page's directory lies in a TIFF file.

    Attributes:
        at: where the number stands that says so.
        place: the directory.
    """

    at: int
    place: int


def upright(blob: bytes) -> bytes:
    """A photo's EXIF data for its result: it says upright, and no thumbnail shows what was removed.

    Raises:
        ValueError: it is no EXIF data.
        struct.error: it is cut short.
    """
    data = bytearray(_without_prefix(blob))
    order = _order_of(data)
    _drop(data, order, _COPIES)
    _orient(data, order, 1)
    table = _first(data, order)
    end = table + 2 + 12 * _count(data, order, table)
    _blank(data, order)
    struct.pack_into(order + "I", data, end, 0)  # the directory that follows is the thumbnail's
    return PREFIX + bytes(data)


def with_orientation(blob: bytes, number: int) -> bytes:
    """EXIF data that says another orientation, by its number; where it said none, its values move to make room.

    Raises:
        ValueError: it is no EXIF data.
        struct.error: it is cut short.
    """
    data = bytearray(_without_prefix(blob))
    if _orient(data, _order_of(data), number):
        return PREFIX + bytes(data)
    order, directory = parsed(blob)
    return enclosed(order, {**directory, ORIENTATION: Value(SHORT, struct.pack(order + "H", number))})


def without_orientation(blob: bytes) -> bytes:
    """EXIF data that says nothing of orientation, for formats that have another place for it."""
    data = bytearray(_without_prefix(blob))
    _drop(data, _order_of(data), {ORIENTATION})
    return PREFIX + bytes(data)


def parsed(blob: bytes) -> tuple[str, Directory]:
    """The byte order, `<` or `>`, and the first directory of EXIF data.

    Raises:
        ValueError: it is no EXIF data.
        struct.error: it is cut short.
    """
    return read(io.BytesIO(_without_prefix(blob)))


def read(file: IO[bytes], page: int = 0) -> tuple[str, Directory]:
    """The byte order and the directory of a page of an open TIFF file, with all below it.

    Args:
        file: the file.
        page: which page, from 0.

    Raises:
        ValueError: it is no TIFF.
        LookupError: it has fewer pages.
        struct.error: it is cut short.
    """
    found = list(islice(links(file), page + 1))
    file.seek(0)
    order = _order_of(file.read(_HEAD))
    return order, directory_at(file, order, found[page].place, set())[0]


def links(file: IO[bytes]) -> Iterator[Link]:
    """Find the directories of an open TIFF file, one for each page; those of BigTIFF, which are laid otherwise, too.

    Raises:
        ValueError: it is no TIFF.
        struct.error: the list of its pages is cut short.
    """
    file.seek(0)
    head = file.read(2 * _HEAD)
    order = _ORDERS.get(head[:2], "")
    version = struct.unpack(order + "H", head[2:4])[0] if order else 0
    if version not in (_CLASSIC, _BIG):
        raise ValueError("no TIFF")
    number, count, entry, at = ("Q", "Q", 20, 8) if version == _BIG else ("I", "H", 12, 4)
    (place,) = struct.unpack_from(order + number, head, at)
    seen: set[int] = set()
    while place and place not in seen:
        yield Link(at, place)
        seen.add(place)
        file.seek(place)
        (entries,) = struct.unpack(order + count, file.read(struct.calcsize(count)))
        at = place + struct.calcsize(order + count) + entry * entries
        file.seek(at)
        (place,) = struct.unpack(order + number, file.read(struct.calcsize(number)))


def opening_with(data: bytes, page: int) -> bytes:
    """A TIFF file's bytes as they would be if it began with a page of it, counted from 0.

    Raises:
        ValueError: it is no TIFF.
        LookupError: it has fewer pages.
        struct.error: it is cut short.
    """
    found = list(islice(links(io.BytesIO(data)), page + 1))
    start = found[0].at  # a number as wide as what lies before it
    place = struct.pack(_ORDERS[data[:2]] + ("I" if start == _HEAD - 4 else "Q"), found[page].place)
    return data[:start] + place + data[2 * start :]


def written(order: str, directory: Directory, *, then: int | None = None) -> bytes:
    """A TIFF file of a directory and all below it, in order of tags.

    Args:
        order: the byte order, `<` or `>`, in which the values' bytes are.
        directory: what to write.
        then: a tag of it that gets the file's length as its value: where what the caller appends will lie.
    """
    start = b"II*\0" if order == "<" else b"MM\0*"
    length = len(laid(order, directory, _HEAD))
    if then is not None:
        directory = {**directory, then: number(order, LONG, _HEAD + length)}
    return start + struct.pack(order + "I", _HEAD) + laid(order, directory, _HEAD)


def enclosed(order: str, directory: Directory) -> bytes:
    """EXIF data of a directory."""
    return PREFIX + written(order, directory)


def number(order: str, kind: int, *values: int) -> Value:
    """A value of whole numbers, of type SHORT or LONG."""
    return Value(kind, struct.pack(f"{order}{len(values)}{'H' if kind == SHORT else 'I'}", *values))


def _without_prefix(blob: bytes) -> bytes:
    while blob.startswith(PREFIX):  # some files have it twice
        blob = blob[len(PREFIX) :]
    return blob


def _order_of(data: bytes | bytearray) -> str:
    order = _ORDERS.get(bytes(data[:2]))
    if order is None or struct.unpack(order + "H", data[2:4])[0] != _CLASSIC:
        raise ValueError("no EXIF data")
    return order


def _first(data: bytearray, order: str) -> int:
    place: int = struct.unpack_from(order + "I", data, 4)[0]
    return place


def _count(data: bytearray, order: str, table: int) -> int:
    count: int = struct.unpack_from(order + "H", data, table)[0]
    struct.unpack_from(order + "I", data, table + 2 + 12 * count)  # raises where the table is cut short
    return count


def _entry(data: bytearray, order: str, tag: int) -> int | None:
    """Where in the first directory a tag's entry stands."""
    table = _first(data, order)
    for spot in range(table + 2, table + 2 + 12 * _count(data, order, table), 12):
        if struct.unpack_from(order + "H", data, spot)[0] == tag:
            return spot
    return None


def _orient(data: bytearray, order: str, number: int) -> bool:
    """Patch the orientation; false where there is none."""
    spot = _entry(data, order, ORIENTATION)
    if spot is not None:
        struct.pack_into(order + "H", data, spot + 8, number)
    return spot is not None


def _drop(data: bytearray, order: str, tags: Container[int]) -> None:
    """Take entries out of the first directory and blank their values; nothing else moves but the entries after them."""
    table = _first(data, order)
    count = _count(data, order, table)
    after = bytes(data[table + 2 + 12 * count : table + 6 + 12 * count])
    entries = [bytes(data[spot : spot + 12]) for spot in range(table + 2, table + 2 + 12 * count, 12)]
    kept = []
    for entry in entries:
        tag, kind, amount, place = struct.unpack(order + "HHII", entry)
        if tag not in tags:
            kept.append(entry)
        elif amount * _SIZES.get(kind, 1) > 4:  # noqa: PLR2004  more than fits into the entry
            _zero(data, place, place + amount * _SIZES.get(kind, 1))
    if len(kept) < count:
        _zero(data, table + 2, table + 6 + 12 * count)
        packed = struct.pack(order + "H", len(kept)) + b"".join(kept) + after
        data[table : table + len(packed)] = packed


def _blank(data: bytearray, order: str) -> None:
    """Zero the thumbnail, and any JPEG that no value holds; what is then empty at the end is cut off."""
    file = io.BytesIO(bytes(data))
    used: set[tuple[int, int]] = {(0, _HEAD)}
    _, following = directory_at(file, order, _first(data, order), used)
    small: set[tuple[int, int]] = set()
    if following:
        try:
            thumbnail, _ = directory_at(file, order, following, small)
        except (struct.error, ValueError):
            thumbnail = {}
        for at, size in ((513, 514), (273, 279)):  # a JPEG, or strips of pixels
            starts, sizes = (numbers(order, thumbnail.get(tag)) for tag in (at, size))
            small |= {(start, start + length) for start, length in zip(starts, sizes, strict=False)}
    for start, end in _gaps(sorted(used), len(data)):
        if any(low < end and start < high for low, high in small) or _JPEG in data[start:end]:
            _zero(data, start, end)
            if end == len(data):
                del data[start:]


def _gaps(spans: list[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    """What lies between spans, in order, of so many bytes; the last first, so that cutting it off moves no other."""
    gaps, reached = [], 0
    for start, end in spans:
        if start > reached:
            gaps.append((reached, min(start, length)))
        reached = max(reached, end)
    if reached < length:
        gaps.append((reached, length))
    return gaps[::-1]


def numbers(order: str, value: Value | None) -> tuple[int, ...]:
    """The whole numbers of a value of type SHORT or LONG; none for other values."""
    if value is None or value.kind not in (SHORT, LONG):
        return ()
    size = _SIZES[value.kind]
    return struct.unpack(f"{order}{len(value.data) // size}{'H' if value.kind == SHORT else 'I'}", value.data)


def _zero(data: bytearray, start: int, end: int) -> None:
    end = min(end, len(data))
    if start < end:
        data[start:end] = bytes(end - start)


def directory_at(file: IO[bytes], order: str, place: int, seen: set[tuple[int, int]]) -> tuple[Directory, int]:
    """A directory with all below it, and where the one after it lies; notes in `seen` which bytes are theirs.

    Values that lie outside the file are left out, as are directories that were seen already.
    """
    length = file.seek(0, os.SEEK_END)
    file.seek(place)
    (count,) = struct.unpack(order + "H", file.read(2))
    table = file.read(12 * count + 4)
    (following,) = struct.unpack_from(order + "I", table, 12 * count)
    seen.add((place, place + 2 + len(table)))
    found: Directory = {}
    for index in range(count):
        tag, kind, amount, inline = struct.unpack_from(order + "HHI4s", table, 12 * index)
        size = amount * _SIZES.get(kind, 0)
        (at,) = struct.unpack(order + "I", inline)
        if tag in _BELOW:
            if at not in {start for start, _ in seen}:
                found[tag] = Value(LONG, b"", directory_at(file, order, at, seen)[0])
            continue
        if size <= len(inline):
            found[tag] = Value(kind, inline[:size])
            continue
        if at + size <= length:
            file.seek(at)
            found[tag] = Value(kind, file.read(size))
            seen.add((at, at + size))
    return {tag: value for tag, value in found.items() if value.data or value.below is not None}, following


def laid(order: str, directory: Directory, place: int) -> bytes:
    """The bytes of a directory that will lie at `place`, its values and all below it behind it."""
    table = struct.pack(order + "H", len(directory))
    end = place + 2 + 12 * len(directory) + 4
    rest = b""
    for tag, value in sorted(directory.items()):
        data, kind = value.data, value.kind
        amount = len(data) // _SIZES.get(kind, 1)
        if value.below is not None:
            table += struct.pack(order + "HHII", tag, LONG, 1, end + len(rest))
            data = laid(order, value.below, end + len(rest))
        elif len(data) <= 4:  # noqa: PLR2004  what fits into the entry
            table += struct.pack(order + "HHI4s", tag, kind, amount, data)
            continue
        else:
            table += struct.pack(order + "HHII", tag, kind, amount, end + len(rest))
        rest += data + bytes(len(data) % 2)  # each begins at an even place
    return table + bytes(4) + rest
