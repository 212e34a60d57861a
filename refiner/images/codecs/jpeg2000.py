"""JPEG 2000: read, not written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

_HEAD = 1 << 16  # bytes within which the codestream begins
_START = b"\xff\x4f\xff\x51"  # the markers of the codestream and of its first segment
_DEPTH = 42  # bytes from the start to the first component's depth


def depth(image: Image.Image) -> int:
    """Bits a channel in an opened file, from the header of its codestream."""
    file: Any = getattr(image, "fp", None)
    if file is None:
        return 8
    position = file.tell()
    file.seek(0)
    head = file.read(_HEAD)
    file.seek(position)
    start = head.find(_START)
    return (head[start + _DEPTH] & 0x7F) + 1 if 0 <= start < len(head) - _DEPTH else 8
