"""PNG: Pillow writes 8 bits and 16-bit gray, this module 16-bit color too."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from refiner.images.codecs.pillow import file_of
from refiner.images.planes import DEEP

if TYPE_CHECKING:
    from collections.abc import Mapping

    from refiner.images.picture import Picture

_COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # PNG's numbers for gray, gray with alpha, RGB and RGBA, by channels
_LEVEL = 2  # of compression: the default, 6, takes five times as long for files an eighth smaller
_UP = 2  # the filter that stores each row as its difference from the one above, which compresses well


def write(picture: Picture, metadata: Mapping[str, Any], _quality: int | None) -> bytes:
    """Write without loss."""
    if picture.depth < DEEP:
        return file_of(picture.to_pil(), "PNG", _as_chunks(metadata), compress_level=_LEVEL)
    if picture.mode == "L":
        return file_of(Image.fromarray(picture.color[..., 0]), "PNG", _as_chunks(metadata), compress_level=_LEVEL)
    return _deep_color(picture, _as_chunks(metadata))


def _as_chunks(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata as Pillow's PNG writer takes it: XMP data is a text chunk with a fixed name."""
    chunks = dict(metadata)
    if "xmp" in chunks:
        chunks["pnginfo"] = PngInfo()
        chunks["pnginfo"].add_itxt("XML:com.adobe.xmp", chunks.pop("xmp").decode())
    return chunks


def _deep_color(picture: Picture, metadata: Mapping[str, Any]) -> bytes:
    """Write 16-bit color, or 16-bit gray with alpha; chunks with metadata come from a tiny PNG that Pillow writes."""
    planes = np.asarray(picture)
    height, width, channels = planes.shape
    header = struct.pack(">IIBBBBB", width, height, DEEP, _COLOR_TYPES[channels], 0, 0, 0)
    rows = planes.astype(">u2").view(np.uint8).reshape(height, -1)
    filtered = np.empty((height, rows.shape[1] + 1), dtype=np.uint8)
    filtered[:, 0] = _UP
    filtered[0, 1:] = rows[0]
    filtered[1:, 1:] = rows[1:] - rows[:-1]
    stub = io.BytesIO()
    Image.new("RGB", (1, 1)).save(stub, "PNG", **metadata)
    chunks = [_chunk(b"IHDR", header), *_ancillary(stub.getvalue())]
    chunks += [_chunk(b"IDAT", zlib.compress(filtered.tobytes(), _LEVEL)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


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
