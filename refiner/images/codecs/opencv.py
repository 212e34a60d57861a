"""16-bit color: Pillow reduces it to 8 bits without a word, OpenCV reads all of it."""

from __future__ import annotations

import importlib.util
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from refiner.errors import InputError
from refiner.images.codecs.pillow import damaged, depth_by_tiles, tiles_of
from refiner.images.planes import Planes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL import Image

_ERRORS_ALONE = 2  # `LOG_LEVEL_ERROR`, by its number as only newer OpenCV has the name
_LEVEL = threading.Lock()  # OpenCV has one level for all threads


def decode(image: Image.Image, path: Path, prepare: Callable[[bytes], bytes] | None = None) -> Planes | None:
    """Read the 16-bit color of an opened file; gives None where Pillow loses nothing.

    Args:
        image: as Pillow holds it.
        path: the file.
        prepare: changes the file's bytes so that OpenCV, which reads the first page alone, finds the image's page
            there; without it no other page is read.

    Raises:
        InputError: the file is damaged, or OpenCV is missing.
    """
    if image.mode.startswith("I") or depth_by_tiles(image) == 8:  # noqa: PLR2004  bits
        return None
    if image.tell() and prepare is None:
        return None
    return read_16_bits(path, (image.height, image.width), gray="LA;16" in tiles_of(image), prepare=prepare)


def read_16_bits(
    path: Path, size: tuple[int, int], *, gray: bool = False, prepare: Callable[[bytes], bytes] | None = None
) -> Planes:
    """Read a file of 16 bits a channel.

    Args:
        path: the file.
        size: its height and width.
        gray: whether it holds gray with alpha, which OpenCV gives as color.
        prepare: see `decode`.

    Raises:
        InputError: the file is damaged, or OpenCV is missing.
    """
    if importlib.util.find_spec("cv2") is None:
        raise InputError(
            f'{path}: holds 16 bits a channel, which needs OpenCV: pip install "refiner-inpainting[formats]".'
        )
    import cv2  # noqa: PLC0415  an extra

    try:
        data = np.frombuffer((prepare or bytes)(path.read_bytes()), dtype=np.uint8)
        with _LEVEL:
            # It would write a line to stderr for each tag that it does not know, which is no fault of the file.
            logs: Any = cv2.utils.logging if hasattr(cv2.utils, "logging") else cv2  # the second before 4.13
            before = logs.setLogLevel(_ERRORS_ALONE)
            try:
                decoded = cv2.imdecode(data, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
            finally:
                logs.setLogLevel(before)
    except (cv2.error, OSError) as error:
        raise damaged(path, error, "image") from error
    if decoded is None or decoded.dtype != np.uint16 or decoded.shape[:2] != size:
        raise InputError(f"{path}: is damaged or of an unusual kind of 16 bits; expected a whole image file.")
    if decoded.ndim == 2:  # noqa: PLR2004  H, W
        return Planes(decoded[..., None])
    color = np.ascontiguousarray(decoded[..., 2::-1])  # OpenCV's order is blue, green, red
    alpha = np.ascontiguousarray(decoded[..., 3]) if decoded.shape[2] == 4 else None  # noqa: PLR2004  RGBA
    return Planes(color[..., :1] if gray else color, alpha)
