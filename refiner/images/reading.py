"""Image files, PIL images and arrays to pictures."""

from __future__ import annotations

import importlib.util
import struct
import warnings
import zlib
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from refiner.errors import InputError, first_line
from refiner.images.picture import Picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from refiner.images.picture import Values

Source: TypeAlias = "str | Path | Image.Image | NDArray[Any]"

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = {
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
}
_SEVERAL = ("MPO", "HEIF", "AVIF", "ICO", "ICNS", "PSD")  # whose first image is the picture, the others belong to it
_CARRIED = ("icc_profile", "dpi")  # XMP is left out: it may turn the picture again, and hold thumbnails
# Tags that describe how a TIFF file is stored, not the picture: they would be wrong in another file.
_STRUCTURE = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284, 288, 289, 290, 291}
    | {292, 293, 296, 282, 283, 297, 301, 317, 318, 319, 320, 321, 322, 323, 324, 325, 330, 338, 339, 340, 341, 347}
    | {512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, 700, 34377, 34675}
)
# What Pillow's decoders raise on damaged files: about anything.
DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, MemoryError, ArithmeticError, RuntimeError,
    AttributeError, AssertionError, struct.error, zlib.error,
)  # fmt: skip
_ORIENTATION = ExifTags.Base.Orientation
_16_BITS = 65535
_MAX_SIDE = 65535  # of what is decoded without a memory limit of its own


def read_picture(source: Source) -> Picture:
    """Read a photo from a file, a PIL image or an array (H,W), (H,W,3) or (H,W,4) of 8 or 16 bits.

    EXIF orientation is applied.

    Raises:
        InputError: the file is missing, damaged, moving, or not an image of 8 or 16 bits a channel.
    """
    if isinstance(source, np.ndarray):
        color, alpha = _from_array(source, "image")
        return Picture(color, alpha)
    image, name, path = _opened(source, "image")
    with image if path is not None else nullcontext(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of malformed tags
        return _picture(image, name, path)


def read_plain(source: Source, role: str) -> tuple[Image.Image, str]:
    """Decode an 8-bit image as it is, for use as a mask; orientation is left to the caller.

    Returns:
        The image and its name for messages.

    Raises:
        InputError: the file is missing, damaged or not an image, or the array does not fit.
    """
    if isinstance(source, np.ndarray):
        if source.dtype == np.bool_:
            source = source.astype(np.uint8) * 255
        color, alpha = _from_array(source, role)
        return _lifted(color, alpha).to_pil(), role
    image, name, path = _opened(source, role)
    with image if path is not None else nullcontext():
        file = path or _own_file(image)
        if file is not None and _is_deep(image):
            color, alpha = _decode_deep(file, image, gray=False)
            return _lifted(color, alpha).to_pil(), name
        return _decoded(image, name, role), name


def _lifted(color: Values, alpha: Values | None) -> Picture:
    """In 8 bits, where any value above 0 stays above 0: labels in a mask count, however small."""
    planes = [None if plane is None else np.ceil(plane / 257).astype(np.uint8) for plane in (color, alpha)]
    return Picture(color, alpha) if color.dtype == np.uint8 else Picture(planes[0], planes[1])  # type: ignore[arg-type]


def size_of(path: Path) -> tuple[int, int]:
    """Height and width of a file's picture as stored, from its header alone; (0, 0) where it cannot be read."""
    try:
        image, _, _ = _opened(path, "image")
    except InputError:
        return 0, 0
    with image:
        return image.height, image.width


def orientation(image: Image.Image) -> Image.Transpose | None:
    """How EXIF says an image is to be turned; None where it does not, or cannot be read."""
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except DAMAGE:  # malformed EXIF
        return None


def is_sideways(turned: Image.Transpose | None) -> bool:
    """Whether a turn swaps height and width."""
    return turned in _SIDEWAYS


def _picture(image: Image.Image, name: str, path: Path | None) -> Picture:
    # Asked first: reading EXIF may decode, which forgets it.
    layout, deep, bits, file = str(getattr(image, "tile", "")), _is_deep(image), _bits(image), path or _own_file(image)
    turned = orientation(image)
    metadata = {key: image.info[key] for key in _CARRIED if image.info.get(key)}
    exif = _portable_exif(image)
    if exif:
        metadata["exif"] = exif
    if image.format in ("JPEG", "MPO"):
        metadata |= _jpeg_settings(image)
    if file is not None and deep:
        color, alpha = _decode_deep(file, image, gray="LA;16" in layout)
        to_turn = None if image.format == "TIFF" else turned  # OpenCV turns TIFF itself
    else:
        decoded = _decoded(image, name, "image")
        to_turn = orientation(decoded)  # none where Pillow turned it itself, as it does TIFF
        color, alpha = _from_pil(decoded, name)
    color, alpha = _turn(color, to_turn), None if alpha is None else _turn(alpha, to_turn)
    stored = bits if bits > 8 * color.itemsize else None
    return Picture(color, alpha, name, "JPEG" if image.format == "MPO" else image.format, metadata, turned, stored)


def _is_deep(image: Image.Image) -> bool:
    """Whether a file holds 16-bit color that OpenCV reads, and Pillow would reduce to 8 bits without a word."""
    tiles = getattr(image, "tile", None) or []
    if image.mode.startswith("I"):
        return False
    # Of other maximal values in a PPM, OpenCV leaves the range as it is, and Pillow stretches it to 8 bits.
    return ";16" in str(tiles) or (image.format == "PPM" and f", {_16_BITS})" in str(tiles))


def _bits(image: Image.Image) -> int:
    """Bits a channel that a file holds, before it is decoded; 8 where it does not tell."""
    tiles = getattr(image, "tile", None) or []
    if ";16" in str(tiles):
        return 16
    if image.format == "PPM" and tiles:
        values = [value for value in (tiles[0].args or ()) if isinstance(value, int)]
        return max([8, *(value.bit_length() for value in values)])
    if image.format == "JPEG2000":
        return _jpeg2000_bits(image)
    found = image.info.get("bit_depth")  # pillow-heif's
    return found if isinstance(found, int) else 8


def _jpeg2000_bits(image: Image.Image) -> int:
    """From the codestream's header, where the first component's depth stands 40 bytes behind its marker."""
    file: Any = getattr(image, "fp", None)
    if file is None:
        return 8
    position = file.tell()
    file.seek(0)
    head = file.read(1 << 16)
    file.seek(position)
    start = head.find(b"\xff\x4f\xff\x51")
    return (head[start + 42] & 0x7F) + 1 if 0 <= start < len(head) - 42 else 8


def _own_file(image: Image.Image) -> Path | None:
    """The file that a PIL image is still to be decoded from; None where it is decoded, or has none."""
    name = getattr(image, "filename", None)
    return Path(name) if name and getattr(image, "tile", None) and Path(name).is_file() else None


def _opened(source: str | Path | Image.Image, role: str) -> tuple[Image.Image, str, Path | None]:
    """Open a file; its pixels are not decoded yet."""
    if isinstance(source, Image.Image):
        return source, role, None
    path = Path(source)
    register_plugins()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes that are large but well, and of odd metadata
            image = Image.open(path)
            try:
                frames = getattr(image, "n_frames", 1)
            except BaseException:
                image.close()
                raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such {role} file; check the path.") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, expected the {role} file.") from None
    except PermissionError:
        raise InputError(f"{path}: cannot be read; its permissions forbid it.") from None
    except UnidentifiedImageError:
        raise InputError(
            f"{path}: is not an image that can be read; expected PNG, JPEG, WebP or TIFF{_missing_plugin(path)}."
        ) from None
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise InputError(f"{path}: claims more than {limit} megapixels, which is more than can be opened.") from None
    except DAMAGE as error:
        raise _damaged(path, error, role) from error
    if frames > 1 and image.format not in _SEVERAL:
        image.close()
        raise InputError(f"{path}: holds {frames} frames or pages, expected a single picture; save one of them first.")
    return image, str(path), path


def _decoded(image: Image.Image, name: str, role: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
    except Image.DecompressionBombError:
        raise InputError(f"{name}: has more pixels than can be opened safely.") from None
    except DAMAGE as error:
        raise _damaged(name, error, role) from error
    return image


def _damaged(name: object, error: BaseException, role: str) -> InputError:
    return InputError(f"{name}: is damaged or cut short ({first_line(error)}); expected a whole {role} file.")


def _from_pil(image: Image.Image, name: str) -> tuple[Values, Values | None]:
    mode = image.mode
    if mode.startswith("I;16"):
        deep: NDArray[np.uint16] = np.asarray(image).astype(np.uint16)
        return deep[..., None], None
    if mode == "I":  # how some versions of Pillow hold 16-bit gray
        wide = np.asarray(image)
        if wide.size and wide.min() >= 0 and wide.max() <= _16_BITS:
            return wide.astype(np.uint16)[..., None], None
    if mode in ("I", "F"):
        raise InputError(f"{name}: holds {mode} values without a known range, expected 8 or 16 bits; convert it first.")
    if "transparency" in image.info and mode in ("P", "RGB", "L", "1"):
        image = image.convert("RGBA" if mode in ("P", "RGB") else "LA")
    elif mode not in _DIRECT:
        try:
            image = image.convert(_CONVERTED.get(mode, "RGB"))
        except ValueError as error:
            raise InputError(f"{name}: is an image of mode {mode}, which cannot be read; convert it first.") from error
    values = np.array(image)
    values = values[..., None] if values.ndim == 2 else values  # noqa: PLR2004  H, W
    if image.mode.endswith("A"):
        return values[..., :-1], values[..., -1]
    return values, None


_DIRECT = ("L", "LA", "RGB", "RGBA", "CMYK")
_CONVERTED = {"1": "L", "PA": "RGBA", "La": "LA", "RGBa": "RGBA"}  # to the mode that holds the same colors


def _from_array(array: NDArray[Any], role: str) -> tuple[Values, Values | None]:
    channels = array.shape[2] if array.ndim == 3 else 1  # noqa: PLR2004  H, W, C
    if (
        array.dtype not in (np.uint8, np.uint16)
        or array.ndim not in (2, 3)
        or channels not in (1, 3, 4)
        or not array.size
    ):
        raise InputError(
            f"{role}: expected an array (H,W), (H,W,3) or (H,W,4) of 8- or 16-bit values, got {array.shape} of "
            f"{array.dtype}."
        )
    values = array.reshape(*array.shape[:2], channels)
    if channels == 4:  # noqa: PLR2004  RGBA
        return values[..., :3].copy(), values[..., 3].copy()
    return values.copy(), None


def _decode_deep(path: Path, image: Image.Image, *, gray: bool) -> tuple[Values, Values | None]:
    if importlib.util.find_spec("cv2") is None:
        raise InputError(f'{path}: holds 16 bits a channel, which needs OpenCV: pip install "refiner[formats]".')
    import cv2  # noqa: PLC0415  heavy, and needed for such files alone

    try:
        data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        decoded = cv2.imdecode(data, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    except (cv2.error, OSError) as error:
        raise _damaged(path, error, "image") from error
    if decoded is None or decoded.dtype != np.uint16 or decoded.shape[:2] != (image.height, image.width):
        raise InputError(f"{path}: is damaged or of an unusual kind of 16 bits; expected a whole image file.")
    if decoded.ndim == 2:  # noqa: PLR2004  H, W
        return decoded[..., None], None
    color = np.ascontiguousarray(decoded[..., 2::-1])  # OpenCV's order is blue, green, red
    if gray:
        color = color[..., :1]
    return color, np.ascontiguousarray(decoded[..., 3]) if decoded.shape[2] == 4 else None  # noqa: PLR2004  RGBA


def _turn(values: Values, turned: Image.Transpose | None) -> Values:
    if turned is None:
        return values
    steps = {
        Image.Transpose.FLIP_LEFT_RIGHT: lambda v: v[:, ::-1],
        Image.Transpose.FLIP_TOP_BOTTOM: lambda v: v[::-1],
        Image.Transpose.ROTATE_180: lambda v: v[::-1, ::-1],
        Image.Transpose.TRANSPOSE: lambda v: v.swapaxes(0, 1),
        Image.Transpose.ROTATE_270: lambda v: v.swapaxes(0, 1)[:, ::-1],
        Image.Transpose.TRANSVERSE: lambda v: v.swapaxes(0, 1)[::-1, ::-1],
        Image.Transpose.ROTATE_90: lambda v: v.swapaxes(0, 1)[::-1],
    }
    turned_values: Values = np.ascontiguousarray(steps[turned](values))
    return turned_values


def _portable_exif(image: Image.Image) -> bytes:
    """EXIF for the result: upright, without what describes the source file, and without its thumbnail.

    The thumbnail is a small copy of the photo that would still show what was removed.
    """
    try:
        source = image.getexif()
        exif = Image.Exif()
        exif.endian = source.endian or "<"
        for tag, value in source.items():
            if tag not in _STRUCTURE and tag != _ORIENTATION:
                exif[tag] = value
        for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            values = source.get_ifd(ifd)
            if values:
                exif[ifd] = values
            elif ifd in exif:
                del exif[ifd]
        if not len(exif):
            return b""
        exif[_ORIENTATION] = 1
        return exif.tobytes()
    except DAMAGE:
        return b""  # malformed EXIF is not carried on


def _jpeg_settings(image: Image.Image) -> dict[str, Any]:
    """How a JPEG was compressed, so that the result can be compressed the same way."""
    from PIL.JpegImagePlugin import get_sampling  # noqa: PLC0415

    settings: dict[str, Any] = {}
    tables = getattr(image, "quantization", None)
    if tables:
        settings["qtables"] = {key: list(table) for key, table in tables.items()}
        sampling = get_sampling(image)
        settings["subsampling"] = sampling if sampling in (0, 1, 2) else 0
    return settings


_registered: list[bool] = []


def register_plugins() -> None:
    """Have Pillow open HEIF, where pillow-heif is installed."""
    if _registered:
        return
    _registered.append(True)
    if importlib.util.find_spec("pillow_heif") is not None:
        import pillow_heif  # noqa: PLC0415

        pillow_heif.register_heif_opener()


def _missing_plugin(path: Path) -> str:
    if path.suffix.lower() in (".heic", ".heif") and importlib.util.find_spec("pillow_heif") is None:
        return ', or HEIC with pip install "refiner[formats]"'
    return ""
