"""Image file formats: a record for each says what it holds, and how it is read and written.

To add one, `register` a record, as those at the end of this module are; nothing else knows formats by name. What
Pillow reads and has no record here is read Pillow's way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from refiner.errors import InputError
from refiner.images import avif, deep, heif, jpeg, jpeg2000, pillow, png, ppm, tiff, webp
from refiner.images.planes import DEEP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from refiner.images.picture import Picture
    from refiner.images.planes import Planes

_NO_LIMIT = 1 << 31
_ANY_MODE = ("L", "LA", "RGB", "RGBA")


def _always() -> bool:
    return True


@dataclass(frozen=True)
class Format:
    """An image file format.

    Attributes:
        name: as Pillow and messages have it.
        suffixes: of its files' names, in lower case; the first is the usual one.
        other_names: Pillow's names for variants of it.
        modes: what it holds at 8 bits a channel, as `Picture.mode` names it; other modes are converted or refused.
        deep_modes: what it holds at 16 bits a channel.
        metadata: what it holds of `icc_profile`, `exif`, `xmp` and `dpi`.
        max_side: the longest side it holds, in pixels.
        max_exif: the most EXIF data it holds, in bytes.
        max_xmp: the most XMP data.
        lossless: whether it keeps every value, where no quality is given.
        has_quality: whether a quality from 1 to 100 can be given.
        joint_frames: whether several frames in a file belong to one picture, which is the first of them; files of
            other formats with several are refused.
        signature: the first bytes of a file, for a format that Pillow does not know.
        open: opens such a file as a PIL image.
        depth: finds the bits a channel of an opened file.
        decode: reads the values of an opened file that Pillow would cut to fewer bits; gives None where it would not.
        compression: finds how an opened file is compressed, as metadata by which `write` does the same.
        write: turns a picture, the metadata to put in, and the quality or None into a file's bytes; None for formats
            that are only read.
        load: makes Pillow know the format where that takes a plug-in; false where it is not installed.
        extra: the optional dependencies of this package that bring the plug-in.
    """

    name: str
    suffixes: tuple[str, ...] = ()
    other_names: tuple[str, ...] = ()
    modes: tuple[str, ...] = _ANY_MODE
    deep_modes: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()
    max_side: int = _NO_LIMIT
    max_exif: int = _NO_LIMIT
    max_xmp: int = _NO_LIMIT
    lossless: bool = False
    has_quality: bool = False
    joint_frames: bool = False
    signature: bytes = b""
    open: Callable[[Path], Image.Image] = Image.open
    depth: Callable[[Image.Image], int] = deep.depth_by_tiles
    decode: Callable[[Image.Image, Path], Planes | None] | None = None
    compression: Callable[[Image.Image], dict[str, Any]] | None = None
    write: Callable[[Picture, Mapping[str, Any], int | None], bytes] | None = None
    load: Callable[[], bool] = _always
    extra: str | None = None

    @property
    def suffix(self) -> str:
        """The usual one."""
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
        """Whether it holds 16 bits a channel."""
        return bool(self.deep_modes)

    def holds(self, mode: str, depth: int) -> bool:
        """Whether a picture keeps its mode in this format, which may cut its 16 bits to 8."""
        return mode in (self.deep_modes if self.is_deep and depth == DEEP else self.modes)


_formats: dict[str, Format] = {}


def register(kind: Format) -> None:
    """Add a format, in place of one of the same name."""
    _formats[kind.name] = kind


def unregister(name: str) -> None:
    """Remove a format."""
    del _formats[name]


def load_plugins() -> None:
    """Make Pillow know all formats that are installed."""
    for kind in _formats.values():
        kind.load()


def by_name(name: str | None) -> Format:
    """The format by one of Pillow's names; without a record, a plain one, which is read Pillow's way."""
    return next((kind for kind in _formats.values() if name in (kind.name, *kind.other_names)), Format(name or ""))


def by_suffix(suffix: str) -> Format | None:
    """The format that a file name asks for; None where there is no record of it."""
    return next((kind for kind in _formats.values() if suffix.lower() in kind.suffixes), None)


def by_signature(path: Path) -> Format | None:
    """The format of a file that Pillow does not know; None for all others.

    Raises:
        OSError: the file cannot be read.
    """
    own = [kind for kind in _formats.values() if kind.signature]
    if not own:
        return None
    with path.open("rb") as file:
        head = file.read(max(len(kind.signature) for kind in own))
    return next((kind for kind in own if head.startswith(kind.signature)), None)


def suffixes() -> frozenset[str]:
    """What the names of picture files end in, in lower case: those of all records, and those that Pillow reads."""
    Image.init()
    readable = {suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN}
    return frozenset(readable.union(*(kind.suffixes for kind in _formats.values())))


def writable() -> list[Format]:
    """The formats that can be written here."""
    return [kind for kind in _formats.values() if kind.write is not None and kind.load()]


def to_write(path: Path) -> Format:
    """The format of a file to write, which its name asks for.

    Raises:
        InputError: it is none that can be written here.
    """
    kind = by_suffix(path.suffix)
    if kind is None or kind.write is None or not kind.load():
        raise InputError(f"{path}: expected a name that ends in {listed(known.suffix for known in writable())}.")
    return kind


def listed(words: Iterable[str]) -> str:
    """Words in a sentence: `a, b or c`."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


PNG = Format(
    "PNG",
    (".png", ".apng"),
    deep_modes=_ANY_MODE,
    metadata=("icc_profile", "exif", "xmp", "dpi"),
    lossless=True,
    decode=deep.decode,
    write=png.write,
)
FALLBACK = PNG  # holds any photo but CMYK: for results without a name, and in messages what to use instead

for _kind in (
    PNG,
    Format(
        "TIFF",
        (".tif", ".tiff"),
        modes=(*_ANY_MODE, "CMYK"),
        deep_modes=("L", "RGB", "RGBA", "CMYK"),
        metadata=("icc_profile", "exif", "xmp", "dpi"),
        lossless=True,
        decode=tiff.decode,
        write=tiff.write,
    ),
    Format(
        "JPEG",
        (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
        other_names=("MPO",),  # JPEGs with further frames, such as the other eye's
        modes=("L", "RGB", "CMYK"),
        metadata=("icc_profile", "exif", "xmp", "dpi"),
        max_side=65535,
        max_exif=jpeg.MAX_EXIF,
        max_xmp=jpeg.MAX_XMP,
        has_quality=True,
        joint_frames=True,
        compression=jpeg.compression,
        write=jpeg.write,
    ),
    Format(
        "WEBP",
        (".webp",),
        modes=("RGB", "RGBA"),
        metadata=("icc_profile", "exif", "xmp"),
        max_side=16383,
        lossless=True,
        has_quality=True,
        write=webp.write,
    ),
    Format(
        "AVIF",
        (".avif", ".avifs"),
        modes=("RGB", "RGBA"),
        metadata=("icc_profile", "exif", "xmp"),
        max_side=65535,
        has_quality=True,
        joint_frames=True,
        depth=avif.depth,
        write=pillow.lossy_writer("AVIF"),
        load=lambda: pillow.can_write("AVIF"),  # older builds of Pillow cannot
    ),
    Format(
        "HEIF",
        (".heic", ".heif", ".heics", ".heifs", ".hif"),
        modes=("RGB", "RGBA"),
        metadata=("icc_profile", "exif", "xmp"),
        max_side=16384,
        has_quality=True,
        joint_frames=True,
        depth=heif.depth,
        write=pillow.lossy_writer("HEIF"),
        load=heif.load_plugin,
        extra="formats",
    ),
    Format("BMP", (".bmp",), modes=("L", "RGB"), metadata=("dpi",), lossless=True, write=pillow.plain_writer("BMP")),
    Format(
        "PPM",
        (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
        modes=("L", "RGB"),
        lossless=True,
        depth=ppm.depth,
        decode=ppm.decode,
        write=pillow.plain_writer("PPM"),
    ),
    Format("JPEG2000", (".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"), depth=jpeg2000.depth),
    Format("ICO", (".ico",), joint_frames=True),
    Format("ICNS", (".icns",), joint_frames=True),
    Format("PSD", (".psd",), joint_frames=True),
):
    register(_kind)
