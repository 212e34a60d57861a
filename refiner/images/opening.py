"""Opening image files and PIL images: the format they are in, and in one line why one cannot be opened."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, UnidentifiedImageError

from refiner.errors import InputError, Option
from refiner.images import formats
from refiner.images.codecs.pillow import DAMAGE, damaged, open_file
from refiner.images.pages import turn_to

if TYPE_CHECKING:
    from collections.abc import Iterator

    from refiner.images.codecs.format import Format
    from refiner.images.pages import Pages


@dataclass(frozen=True)
class Opened:
    """An image whose size and metadata are known; its pixels may not be decoded yet.

    Attributes:
        image: as Pillow holds it.
        format: the format of its file.
        name: what messages call it.
        role: what it is for, in messages: `image` or `mask`.
        file: where its pixels are still to be decoded from; None where they are decoded, or came from no file.
        pages: which page of its file it is; None where that has one page, or was opened by the caller.
    """

    image: Image.Image
    format: Format
    name: str
    role: str
    file: Path | None
    pages: Pages | None = None


@contextmanager
def opened(
    source: str | Path | Image.Image, role: str, page: int | None = None, *, choosable: bool = False
) -> Iterator[Opened]:
    """Open an image for as long as the context lasts; one that came as a PIL image is left open.

    Pillow's warnings about odd metadata reach the caller. Silencing them here would change the warning filters of the
    whole process, which other threads rely on.

    Args:
        source: a file or a PIL image.
        role: what it is for, in messages: `image` or `mask`.
        page: which page or frame of a file, from 1; None for the only one.
        choosable: whether the user can give a page, for the message that there are several.

    Raises:
        InputError: the file is missing, damaged or not an image, or has no such page, or several and none was given.
    """
    if isinstance(source, Image.Image):
        if page is not None:
            raise InputError(Option("page"), f": is of files, but the {role} is a PIL image; turn it by `seek`.")
        yield Opened(source, formats.by_name(source.format), role, role, _undecoded_file(source))
        return
    path = Path(source)
    image, kind, pages = _open(path, role, page, choosable=choosable)
    with image:
        yield Opened(image, kind, str(path), role, path, pages)


def decoded(source: Opened) -> Image.Image:
    """The image with its pixels, as Pillow decodes them.

    Raises:
        InputError: the file is damaged.
    """
    try:
        source.image.load()
    except Image.DecompressionBombError:
        raise InputError(f"{source.name}: has more pixels than can be opened safely.") from None
    except DAMAGE as error:
        raise damaged(source.name, error, source.role) from error
    return source.image


def _undecoded_file(image: Image.Image) -> Path | None:
    """The file that a PIL image is still to be decoded from; None where it is decoded, or came from no file."""
    name = getattr(image, "filename", None)
    return Path(name) if name and getattr(image, "tile", None) and Path(name).is_file() else None


def _open(path: Path, role: str, page: int | None, *, choosable: bool) -> tuple[Image.Image, Format, Pages | None]:
    """A file's image at a page, its format and which page it is, or why it cannot be opened."""
    formats.load_plugins()
    try:
        return _open_unchecked(path, page, choosable=choosable)
    except FileNotFoundError:
        raise InputError(f"{path}: no such {role} file; check the path.") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, expected the {role} file.") from None
    except PermissionError:
        raise InputError(f"{path}: cannot be read; its permissions forbid it.") from None
    except UnidentifiedImageError:
        known = formats.listed(kind.name for kind in formats.writable())
        raise InputError(
            f"{path}: is not an image that can be read; expected {known}{_missing_plugin(path)}."
        ) from None
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise InputError(f"{path}: claims more than {limit} megapixels, which is more than can be opened.") from None
    except DAMAGE as error:
        raise damaged(path, error, role) from error


def _open_unchecked(path: Path, page: int | None, *, choosable: bool) -> tuple[Image.Image, Format, Pages | None]:
    """As `_open`, with the errors that Pillow raises."""
    kind = formats.by_signature(path)
    image = open_file(path, formats.readable()) if kind is None else kind.open(path)
    try:
        kind = kind or formats.by_name(image.format)
        return image, kind, turn_to(image, kind, page, str(path), choosable=choosable)
    except BaseException:
        image.close()
        raise


def _missing_plugin(path: Path) -> str:
    """What to install for a file whose name asks for a format that nothing here reads; empty for other files."""
    kind = formats.by_suffix(path.suffix)
    if kind is None or kind.extra is None or kind.load():
        return ""
    return f'; {path.suffix} needs pip install "refiner-inpainting[{kind.extra}]"'
