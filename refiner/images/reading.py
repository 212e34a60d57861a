"""Reading pictures from image files, PIL images and arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from refiner.errors import InputError, Option
from refiner.images.metadata import read_metadata
from refiner.images.opening import Opened, decoded, opened
from refiner.images.orientation import Turn, orientation, turned
from refiner.images.picture import Picture
from refiner.images.planes import Planes, from_array, from_pil

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL import Image

    from refiner.images.pages import Pages

Source: TypeAlias = "str | Path | Image.Image | NDArray[Any]"


@dataclass(frozen=True)
class Stored:
    """An image's values as they are stored, not yet turned upright.

    Attributes:
        planes: the values.
        turn: the turn that makes them upright; None where they are.
        name: what messages call the image.
    """

    planes: Planes
    turn: Turn | None
    name: str


def read_picture(source: Source, page: int | None = None, *, choosable: bool = False) -> Picture:
    """Read a photo from a file, a PIL image or an array (H,W), (H,W,3) or (H,W,4) of 8 or 16 bits.

    It is turned upright, as its EXIF data says.

    Args:
        source: what to read.
        page: which page of a file of several, or which frame of an animation, from 1; None for the only one.
        choosable: whether the user can give a page, for the message that there are several.

    Raises:
        InputError: the file is missing, damaged, or not an image of 8 or 16 bits a channel; or it has no such page, or
            several and none was given.
    """
    if isinstance(source, np.ndarray):
        if page is not None:
            raise InputError(Option("page"), ": is of files, but the image is an array; leave it out.")
        return Picture(*from_array(source, "image")[:2])
    with opened(source, "image", page, choosable=choosable) as image:
        return _picture(image)


def read_stored(source: Source, role: str) -> Stored:
    """Read an image as its values are stored.

    Args:
        source: as for `read_picture`.
        role: what the image is for, in messages: `image` or `mask`.

    Raises:
        InputError: see `read_picture`.
    """
    if isinstance(source, np.ndarray):
        return Stored(from_array(source, role), None, role)
    with opened(source, role) as image:
        return _stored(image, _in_full(image))


def read_rgb(path: Path, *, enough: int | None = None) -> Image.Image:
    """Read a photo as 8-bit RGB, upright and without alpha.

    Args:
        path: the file.
        enough: the short side in pixels that is enough. A JPEG is then decoded at a fraction of its size, which is
            faster; most other formats come whole.

    Raises:
        InputError: see `read_picture`.
    """
    with opened(path, "image") as image:
        if enough is not None:
            image.image.draft("RGB", (enough, enough))
        stored = _stored(image, _in_full(image))
    return Picture(turned(stored.planes, stored.turn).color).to_pil().convert("RGB")


def read_size(path: Path, page: int | None = None) -> tuple[int, int]:
    """Read height and width as stored, from a file's header alone; gives (0, 0) where it cannot be read."""
    try:
        with opened(path, "image", page) as image:
            return image.image.height, image.image.width
    except InputError:
        return 0, 0


def _picture(source: Opened) -> Picture:
    # The order matters: reading EXIF data may decode the file, which loses its depth; decoding may drop the turn.
    depth, full = source.format.depth(source.image), _in_full(source)
    turn = orientation(source.image)
    metadata = read_metadata(source.image, source.format)
    stored = _stored(source, full)
    color, alpha, _ = turned(stored.planes, stored.turn)
    held = 8 * color.itemsize
    return Picture(
        color,
        alpha,
        source.name,
        source.format.name or None,
        metadata,
        turn,
        stored_depth=depth if depth > held else None,
        scaled_from=depth if full is not None and depth < held else None,
        pages=_pages(source, color.nbytes),
    )


def _pages(source: Opened, size: int) -> Pages | None:
    """Which page of its file a picture is, with what it takes to keep the others; `size` is that of its values."""
    if source.pages is None or source.file is None or source.format.other_pages is None:
        return source.pages
    return source.format.other_pages(source.pages, source.file, size)


def _stored(source: Opened, full: Planes | None) -> Stored:
    """The values as `_in_full` gave them; where it gave none, as Pillow decodes them."""
    if full is None:
        image = decoded(source)
        # The turn is read after decoding, in which Pillow turns some formats upright and drops the tag.
        return Stored(from_pil(image, source.name), orientation(image), source.name)
    return Stored(full, None if full.upright else orientation(source.image), source.name)


def _in_full(source: Opened) -> Planes | None:
    """The values of a file that Pillow would cut to fewer bits; None where it cuts nothing."""
    if source.file is None or source.format.decode is None:
        return None
    return source.format.decode(source.image, source.file)
