"""Which file format a file is of: by its name, its first bytes, or Pillow's word for it.

The records come from `refiner.images.codecs.table`; other packages can `register` more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from refiner.errors import InputError
from refiner.images.codecs import table
from refiner.images.codecs.format import Format

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FALLBACK = table.PNG  # holds any photo but CMYK: for results without a name, and to propose in messages

# Read Pillow's way. Its other decoders are never tried: some start programs (EPS), some are for no photos.
_PLAIN = frozenset({"DDS", "DIB", "GIF", "PCX", "QOI", "SGI", "TGA"})

_formats: dict[str, Format] = {kind.name: kind for kind in table.FORMATS}


def register(kind: Format) -> None:
    """Add a format; it replaces one of the same name."""
    _formats[kind.name] = kind


def unregister(name: str) -> None:
    """Remove a format."""
    del _formats[name]


def load_plugins() -> None:
    """Have Pillow load the plug-ins of all formats that are installed."""
    for kind in _formats.values():
        kind.load()


def by_name(name: str | None) -> Format:
    """Find a format by one of Pillow's names; where it has no record, gives one that is read Pillow's way."""
    return next((kind for kind in _formats.values() if name in (kind.name, *kind.other_names)), Format(name or ""))


def by_suffix(suffix: str) -> Format | None:
    """Find the format that a file name asks for; gives None where it has no record."""
    return next((kind for kind in _formats.values() if suffix.lower() in kind.suffixes), None)


def by_signature(path: Path) -> Format | None:
    """Find the format of a file that Pillow does not know; gives None for all other files.

    Raises:
        OSError: the file cannot be read.
    """
    own = [kind for kind in _formats.values() if kind.signature]
    if not own:
        return None
    with path.open("rb") as file:
        head = file.read(max(len(kind.signature) for kind in own))
    return next((kind for kind in own if head.startswith(kind.signature)), None)


def readable() -> frozenset[str]:
    """Pillow's names of the formats that are read: those with a record, and some plain ones."""
    return _PLAIN.union(*({kind.name, *kind.other_names} for kind in _formats.values()))


def suffixes() -> frozenset[str]:
    """What names of picture files end in, in lower case: for all formats that are read."""
    Image.init()
    names = readable() & set(Image.OPEN)
    plain = {suffix for suffix, name in Image.registered_extensions().items() if name in names}
    return frozenset(plain.union(*(kind.suffixes for kind in _formats.values())))


def writable() -> list[Format]:
    """The formats that can be written here."""
    return [kind for kind in _formats.values() if kind.write is not None and kind.load()]


def to_write(path: Path) -> Format:
    """Find the format of a file to write, which its name asks for.

    Raises:
        InputError: no format of that name can be written here.
    """
    kind = by_suffix(path.suffix)
    if kind is None or kind.write is None or not kind.load():
        raise InputError(f"{path}: expected a name that ends in {listed(known.suffix for known in writable())}.")
    return kind


def listed(words: Iterable[str]) -> str:
    """Words in a sentence: `a, b or c`."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last
