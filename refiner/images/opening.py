"""Opening image files and PIL images: the format they are in, and in one line why one cannot be opened."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, UnidentifiedImageError

from refiner.errors import InputError
from refiner.images import formats
from refiner.images.codecs.pillow import DAMAGE, damaged, open_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from refiner.images.codecs.format import Format


@dataclass(frozen=True)
class Opened:
    """An image whose size and metadata are known; its pixels may not be decoded yet.

    Attributes:
        image: as Pillow holds it.
        format: the format of its file.
        name: what messages call it.
        role: what it is for, in messages: `image` or `mask`.
        file: where its pixels are still to be decoded from; None where they are decoded, or came from no file.
    """

    image: Image.Image
    format: Format
    name: str
    role: str
    file: Path | None


@contextmanager
def opened(source: str | Path | Image.Image, role: str) -> Iterator[Opened]:
    """Open an image for as long as the context lasts; one that came as a PIL image is left open.

    Pillow's warnings about odd metadata reach the caller. Silencing them here would change the warning filters of the
    whole process, which other threads rely on.

    Args:
        source: a file or a PIL image.
        role: what it is for, in messages: `image` or `mask`.

    Raises:
        InputError: the file is missing, damaged, moving or not an image.
    """
    if isinstance(source, Image.Image):
        yield Opened(source, formats.by_name(source.format), role, role, _undecoded_file(source))
        return
    path = Path(source)
    image, kind = _open(path, role)
    with image:
        yield Opened(image, kind, str(path), role, path)


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


def _open(path: Path, role: str) -> tuple[Image.Image, Format]:
    """A file's image and its format, or why it cannot be opened."""
    formats.load_plugins()
    try:
        image, kind, frames = _open_unchecked(path)
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
    if frames > 1 and not kind.joint_frames:
        image.close()
        raise InputError(f"{path}: holds {frames} frames or pages, expected a single picture; save one of them first.")
    return image, kind


def _open_unchecked(path: Path) -> tuple[Image.Image, Format, int]:
    """A file's image, its format, and how many frames it has."""
    kind = formats.by_signature(path)
    image = open_file(path, formats.readable()) if kind is None else kind.open(path)
    try:
        return image, kind or formats.by_name(image.format), getattr(image, "n_frames", 1)
    except BaseException:
        image.close()
        raise


def _missing_plugin(path: Path) -> str:
    """What to install for a file whose name asks for a format that nothing here reads; empty for other files."""
    kind = formats.by_suffix(path.suffix)
    if kind is None or kind.extra is None or kind.load():
        return ""
    return f'; {path.suffix} needs pip install "refiner-inpainting[{kind.extra}]"'
