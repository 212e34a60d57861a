"""The record of a file format: what it holds, and how it is read and written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from refiner.images.codecs import pillow
from refiner.images.planes import DEEP, bits_held

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL import Image

    from refiner.images.pages import Pages
    from refiner.images.planes import Planes

ANY_MODE = ("L", "LA", "RGB", "RGBA")
_NO_LIMIT = 1 << 31


def _always() -> bool:
    return True


@dataclass(frozen=True)
class Format:
    """An image file format.

    Attributes:
        name: as Pillow and messages have it.
        suffixes: what its files' names end in, in lower case; the usual one first.
        other_names: Pillow's names for variants of it.
        modes: the modes of `Picture.mode` it holds at 8 bits a channel; other modes are converted or refused.
        deep_modes: the modes it holds at more than 8 bits a channel.
        metadata: which of `icc_profile`, `exif`, `xmp` and `dpi` it holds.
        max_side: the longest side it holds, in pixels.
        max_exif: the most EXIF data it holds, in bytes.
        max_xmp: the most XMP data it holds, in bytes.
        lossless: whether it keeps every value when no quality is given.
        has_quality: whether a quality from 1 to 100 can be given.
        deep_bits: the bits a channel it can hold beyond 8, the most usual first.
        joint_frames: whether the frames of a file make up one picture, such as layers do.
        main_frame: whether one of a file's frames is the photo and the others go with it, such as what the other eye
            sees. Of other formats, files with several frames are read only where one was chosen.
        signature: the first bytes of a file, for a format that Pillow does not know.
        open: opens a file as a PIL image.
        depth: finds the bits a channel of an opened file.
        decode: reads the values of an opened file that Pillow would cut to fewer bits; gives None where it would not.
        count_pages: counts the pages or frames of an opened file.
        turn_page: has an opened image show another page, counted from 0.
        other_pages: reads what `write` takes to keep the other pages of a file; it also gets the size in bytes of the
            picture's values. None for formats that are written with one page.
        color_space: finds the color space that an opened file names by numbers, as Pillow's writer takes it; None where
            it is sRGB.
        compression: finds how an opened file is compressed, as metadata from which `write` compresses the same way.
        write: turns a picture, the metadata to put in, and the quality or None into a file's bytes; None for formats
            that are only read.
        load: loads the plug-in by which Pillow knows the format; false where it is not installed.
        extra: the optional dependencies of this package that bring the plug-in.
    """

    name: str
    suffixes: tuple[str, ...] = ()
    other_names: tuple[str, ...] = ()
    modes: tuple[str, ...] = ANY_MODE
    deep_modes: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()
    max_side: int = _NO_LIMIT
    max_exif: int = _NO_LIMIT
    max_xmp: int = _NO_LIMIT
    lossless: bool = False
    has_quality: bool = False
    deep_bits: tuple[int, ...] = (DEEP,)
    joint_frames: bool = False
    main_frame: bool = False
    signature: bytes = b""
    open: Callable[[Path], Image.Image] = pillow.open_file
    depth: Callable[[Image.Image], int] = pillow.depth_by_tiles
    decode: Callable[[Image.Image, Path], Planes | None] | None = None
    count_pages: Callable[[Image.Image], int] = pillow.count_pages
    turn_page: Callable[[Image.Image, int], None] = pillow.turn_page
    other_pages: Callable[[Pages, Path, int], Pages] | None = None
    color_space: Callable[[Image.Image], dict[str, int] | None] | None = None
    compression: Callable[[Image.Image], dict[str, Any]] | None = None
    write: pillow.Writer | None = None
    load: Callable[[], bool] = _always
    extra: str | None = None

    @property
    def suffix(self) -> str:
        """The usual ending of its files' names."""
        return self.suffixes[0]

    @property
    def has_alpha(self) -> bool:
        """Whether it holds alpha."""
        return any(mode.endswith("A") for mode in self.modes)

    @property
    def has_cmyk(self) -> bool:
        """Whether it holds CMYK."""
        return "CMYK" in self.modes

    @property
    def is_deep(self) -> bool:
        """Whether it holds more than 8 bits a channel."""
        return bool(self.deep_modes)

    def bits_for(self, bits: int) -> int:
        """The bits a channel with which a picture of so many is written."""
        if bits == 8 or not self.is_deep:  # noqa: PLR2004
            return 8
        return bits_held(bits, self.deep_bits)

    def holds(self, mode: str, depth: int) -> bool:
        """Whether a picture keeps its mode in this format, which may cut its 16 bits to 8."""
        return mode in (self.deep_modes if self.is_deep and depth == DEEP else self.modes)
