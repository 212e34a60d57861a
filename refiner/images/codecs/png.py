"""PNG, with 8 or 16 bits a channel: Pillow has no 16-bit color, and takes three times as long on two cores."""

from __future__ import annotations

import io
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from refiner.images.picture import Picture

_COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # PNG's numbers for gray, gray with alpha, RGB and RGBA, by channels
_LEVEL = 2  # of compression: the default, 6, takes five times as long for files an eighth smaller
_UP = 2  # the filter that stores each row as its difference from the one above: as small as choosing one for each row
_HEADER = b"\x78\x5e"  # of zlib's format, with a window of 32 KB
_BLOCK = 1 << 22  # bytes that a thread compresses at once
_MOST_THREADS = 8
_ADLER = 65521  # the modulus of the checksum


def write(picture: Picture, metadata: Mapping[str, Any], _quality: int | None) -> bytes:
    """Write without loss: 8 or 16 bits, as the picture has."""
    planes = np.asarray(picture)
    height, width = planes.shape[:2]
    channels = planes.size // (height * width)
    header = struct.pack(">IIBBBBB", width, height, picture.depth, _COLOR_TYPES[channels], 0, 0, 0)
    # Chunks with metadata come from a tiny PNG that Pillow writes.
    stub = io.BytesIO()
    Image.new("RGB", (1, 1)).save(stub, "PNG", **_as_chunks(metadata))
    rows = planes.astype(planes.dtype.newbyteorder(">"), copy=False).reshape(height, -1)
    chunks = [_chunk(b"IHDR", header), *_ancillary(stub.getvalue()), *_pixels(rows), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _as_chunks(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata as Pillow's PNG writer takes it: XMP data is a text chunk with a fixed name."""
    chunks = dict(metadata)
    if "xmp" in chunks:
        chunks["pnginfo"] = PngInfo()
        chunks["pnginfo"].add_itxt("XML:com.adobe.xmp", chunks.pop("xmp").decode())
    return chunks


def _pixels(rows: NDArray[Any]) -> list[bytes]:
    """Chunks with a picture's rows, (H, values in a row) with the high byte first: blocks compressed at once."""
    values = np.ascontiguousarray(rows).view(np.uint8)
    height, length = values.shape
    step = max(_BLOCK // length, 1)
    firsts = range(0, height, step)

    def compressed(first: int) -> tuple[bytes, int, int]:
        block = values[first : first + step]
        filtered: NDArray[np.uint8] = np.empty((len(block), length + 1), dtype=np.uint8)
        filtered[:, 0] = _UP
        above = values[first - 1] if first else 0
        filtered[0, 1:] = block[0] - above
        np.subtract(block[1:], block[:-1], out=filtered[1:, 1:])
        packer = zlib.compressobj(_LEVEL, wbits=-zlib.MAX_WBITS)
        last = first + step >= height
        data = packer.compress(filtered.data) + packer.flush(zlib.Z_FINISH if last else zlib.Z_FULL_FLUSH)
        return data, zlib.adler32(filtered.data), filtered.size

    with ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_THREADS, len(firsts))) as threads:
        blocks = list(threads.map(compressed, firsts))
    checksum = 1
    for _, each, size in blocks:
        checksum = _joined_checksums(checksum, each, size)
    data = [_HEADER, *(block for block, *_ in blocks), checksum.to_bytes(4, "big")]
    return [_chunk(b"IDAT", each) for each in data]


def _joined_checksums(first: int, second: int, length: int) -> int:
    """Adler-32 of two blocks of bytes one after the other, given that of each and the second's length."""
    low = (first & 0xFFFF) + (second & 0xFFFF) - 1
    high = (first >> 16) + (second >> 16) + length * ((first & 0xFFFF) - 1)
    return high % _ADLER << 16 | low % _ADLER


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _ancillary(png: bytes) -> list[bytes]:
    """The chunks of a PNG that hold metadata: all but its header, pixels and end."""
    chunks, offset = [], 8
    while offset < len(png):
        (length,) = struct.unpack(">I", png[offset : offset + 4])
        if png[offset + 4 : offset + 8] not in (b"IHDR", b"IDAT", b"IEND"):
            chunks.append(png[offset : offset + length + 12])
        offset += length + 12
    return chunks
