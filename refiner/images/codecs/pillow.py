"""What Pillow does for every format: it opens files, says how deep they are, fails on damaged ones, and writes."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

from PIL import Image, UnidentifiedImageError

from refiner.errors import InputError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping
    from pathlib import Path

    from PIL.ImageFile import ImageFile

    from refiner.images.picture import Picture

    Writer = Callable[[Picture, Mapping[str, Any], int | None], bytes]

DEFAULT_QUALITY = 95
# Pillow's decoders raise almost anything on a damaged file. Its warnings about odd metadata are raised too where the
# caller has Python make errors of warnings.
DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, MemoryError, ArithmeticError, RuntimeError,
    AttributeError, AssertionError, UserWarning, struct.error, zlib.error,
)  # fmt: skip
_HEAD = 16  # bytes by which Pillow's plug-ins recognize a file


def open_file(path: Path, names: Container[str] | None = None) -> Image.Image:
    """Open a file as `Image.open` does, but without its warning about pictures that are large and yet allowed.

    Large photos are ordinary here, and Python can silence a warning only for all threads of the process at once.

    Args:
        path: the file.
        names: the formats to try, by Pillow's names; None for all that Pillow has.

    Raises:
        UnidentifiedImageError: no plug-in of Pillow reads the file.
        Image.DecompressionBombError: it has more than twice `Image.MAX_IMAGE_PIXELS`, as in `Image.open`.
        OSError: the file cannot be read.
    """
    Image.init()
    file: IO[bytes] = path.open("rb")
    try:
        if not file.seekable():  # a pipe
            with file:
                file = io.BytesIO(file.read())
        image = _identified(file, str(path), names)
        check_size(image)
    except BaseException:
        file.close()
        raise
    image._exclusive_fp = True  # noqa: SLF001  so that the image closes its file, as after `Image.open`
    return image


def check_size(image: Image.Image) -> None:
    """Refuse an image of more pixels than can be opened safely; Pillow itself would also warn of large ones.

    Raises:
        Image.DecompressionBombError: it has more than twice `Image.MAX_IMAGE_PIXELS`.
    """
    if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > 2 * Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError


def damaged(name: object, error: BaseException, role: str) -> InputError:
    """Make the error for a damaged file.

    Args:
        name: the file's name.
        error: what the decoder raised.
        role: what the file is for: `image` or `mask`.
    """
    return InputError(f"{name}: is damaged or cut short ({first_line(error)}); expected a whole {role} file.")


def tiles_of(image: Image.Image) -> str:
    """Pillow's plan of how to decode an opened file, as text; empty once it is decoded."""
    return str(getattr(image, "tile", None) or "")


def depth_by_tiles(image: Image.Image) -> int:
    """Bits a channel in an opened file, 16 or 8, by Pillow's plan of how to decode it."""
    return 16 if ";16" in tiles_of(image) else 8


def count_pages(image: Image.Image) -> int:
    """How many pages or frames an opened file has."""
    return int(getattr(image, "n_frames", 1))


def turn_page(image: Image.Image, page: int) -> None:
    """Have an opened image show a page of its file, counted from 0."""
    image.seek(page)


def can_write(name: str) -> bool:
    """Whether this build of Pillow writes a format."""
    Image.init()
    return name in Image.SAVE


def file_of(image: Image.Image, name: str, metadata: Mapping[str, Any], **options: Any) -> bytes:
    """Write an image to a file's bytes, with no other metadata than given.

    Args:
        image: what to write.
        name: the format, as Pillow names it.
        metadata: what to put in.
        options: what else Pillow's writer of this format takes.
    """
    image.info.clear()  # of which Pillow would write some too
    buffer = io.BytesIO()
    image.save(buffer, name, **metadata, **options)
    return buffer.getvalue()


def plain_writer(name: str) -> Writer:
    """Make a function that writes 8-bit pictures in a format without options."""

    def write(picture: Picture, metadata: Mapping[str, Any], _quality: int | None) -> bytes:
        return file_of(picture.to_pil(), name, metadata)

    return write


def lossy_writer(name: str) -> Writer:
    """Make a function that writes 8-bit pictures in a format with a quality, and the color at full resolution."""

    def write(picture: Picture, metadata: Mapping[str, Any], quality: int | None) -> bytes:
        return file_of(picture.to_pil(), name, metadata, quality=quality or DEFAULT_QUALITY, subsampling="4:4:4")

    return write


def _identified(file: IO[bytes], name: str, names: Container[str] | None) -> ImageFile:
    """The image in a file, opened by the first of Pillow's plug-ins that reads it."""
    head = file.read(_HEAD)
    tried = [format_name for format_name in Image.ID if names is None or format_name in names]
    for factory, accepts in [Image.OPEN[format_name] for format_name in tried]:
        with suppress(SyntaxError, IndexError, TypeError, struct.error):  # from plug-ins for other formats
            accepted = accepts is None or accepts(head)
            if accepted and not isinstance(accepted, str):  # text says which library the plug-in lacks
                file.seek(0)
                return factory(file, name)
    raise UnidentifiedImageError(name)
