"""Pictures in and out: 8-bit, and whatever is not a hole leaves as it came."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from refiner.errors import InputError

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_MODES = ("RGB", "RGBA", "L", "LA")
_CONVERTED = {"1": "L", "P": "RGB", "PA": "RGBA"}  # to the mode that holds the same colours
_CARRIED = ("icc_profile", "exif", "dpi")  # metadata that is saved again
_WRITTEN: dict[str, dict[str, Any]] = {  # formats that are written, and how: without loss where they can
    "PNG": {},
    "TIFF": {"compression": "tiff_adobe_deflate"},
    "WEBP": {"lossless": True},
    "BMP": {},
    "JPEG": {"quality": 95, "subsampling": 0},
}
_LARGEST_SIDE = {"JPEG": 65535, "WEBP": 16383}


@dataclass(frozen=True)
class Picture:
    """A photo, upright, with all that must survive the work.

    Attributes:
        image: its pixels in one of the modes RGB, RGBA, L, LA, and its metadata.
        name: what to call it in messages.
        format: Pillow's name of the file format it came in, or None.
    """

    image: Image.Image
    name: str
    format: str | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.height, self.image.width

    def rgb(self) -> torch.Tensor:
        """RGB in [0,1] for a network: (1,3,H,W), float32. Grey is repeated, alpha left out."""
        pixels = np.array(self.image.convert("RGB"))
        return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255

    def filled(self, rgb: torch.Tensor, hole: Mask) -> Image.Image:
        """The photo with its hole filled, in its own mode; every other pixel and all alpha untouched.

        Args:
            rgb: (1,3,H,W) in [0,1]. Where its size differs from the photo's, the photo was shrunk on
                request: then all of it is taken, and alpha is shrunk to fit.
            hole: (H,W), true where to take pixels from `rgb`.
        """
        fill = to_image(rgb)
        mode = self.image.mode
        colour = fill.convert("L") if mode in ("L", "LA") else fill
        if fill.size == self.image.size:
            bands = self.image.convert(mode.removesuffix("A")) if mode.endswith("A") else self.image
            colour = Image.composite(colour, bands, Image.fromarray(hole))
        if mode.endswith("A"):
            alpha = self.image.getchannel("A")
            colour.putalpha(alpha if fill.size == alpha.size else alpha.resize(fill.size))
        colour.info.update({key: self.image.info[key] for key in _CARRIED if key in self.image.info})
        return colour


def read_picture(source: str | Path | Image.Image | Pixels) -> Picture:
    """Read a photo from a file, a PIL image or an array (H,W,3), (H,W,4) or (H,W) of 8-bit values.

    EXIF orientation is applied.

    Raises:
        InputError: the file is missing, damaged or not an image, or holds other than 8-bit RGB or grey.
    """
    image, name = open_image(source, "image")
    file_format = image.format
    image = upright(image)
    if "transparency" in image.info:
        image = image.convert("RGBA" if image.mode in ("P", "RGB") else "LA")
    if image.mode in _CONVERTED:
        image = image.convert(_CONVERTED[image.mode])
    if image.mode not in _MODES:
        raise InputError(
            f"{name}: is an image of mode {image.mode}, expected 8-bit RGB or grey, with or without alpha; "
            "convert it first."
        )
    return Picture(image, name, "JPEG" if file_format == "MPO" else file_format)


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says; as it is where that cannot be read."""
    try:
        return ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError):  # what Pillow raises on malformed EXIF
        return image


def open_image(source: str | Path | Image.Image | Pixels, role: str) -> tuple[Image.Image, str]:
    """Decode a file or wrap an array; `role` names it where there is no file.

    Returns:
        The image, decoded, and its name for messages.

    Raises:
        InputError: the file is missing, damaged or not an image, or the array does not fit.
    """
    if isinstance(source, Image.Image):
        return source, role
    if isinstance(source, np.ndarray):
        channels = source.shape[2] if source.ndim == 3 else 1  # noqa: PLR2004  H, W, C
        if source.dtype not in (np.uint8, np.bool_) or source.ndim not in (2, 3) or channels not in (1, 3, 4):
            raise InputError(
                f"{role}: expected an array (H,W) or (H,W,3) of 8-bit values, got {source.shape} of {source.dtype}."
            )
        array = source[..., 0] if source.ndim == 3 and channels == 1 else source  # noqa: PLR2004
        return Image.fromarray(array), role
    path = Path(source)
    try:
        with Image.open(path) as image:
            if role == "image" and ";16" in str(image.tile):  # Pillow would read 16-bit RGB as 8-bit without a word
                raise InputError(f"{path}: holds 16 bits a channel, expected 8; convert it first.")
            image.load()
            return image, str(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such {role} file; check the path.") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, expected an {role} file.") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: is not an image that can be read; expected PNG, JPEG, WebP or TIFF.") from None
    except Image.DecompressionBombError:
        raise InputError(f"{path}: has more pixels than can be opened safely.") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow's decoders raise on damage
        raise InputError(f"{path}: is damaged or cut short ({error}); expected a whole {role} file.") from error


def to_image(rgb: torch.Tensor) -> Image.Image:
    """(1,3,H,W) in [0,1] to an 8-bit image, rounded."""
    pixels = (rgb[0].clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().cpu().numpy())


def format_of(path: Path) -> str:
    """Pillow's name of the format that a file name asks for.

    Raises:
        InputError: the name's ending is not that of an image format that can be written.
    """
    Image.init()
    known = Image.registered_extensions().get(path.suffix.lower())
    if known not in _WRITTEN:
        raise InputError(f"{path}: expected a name that ends in .png, .tif, .webp, .bmp or .jpg.")
    return str(known)


def is_lossy(path: Path) -> bool:
    """Whether the format that a file name asks for changes pixels when it is saved."""
    return format_of(path) == "JPEG"


def check_fits(path: Path, mode: str, size: tuple[int, int]) -> None:
    """Refuse ahead what the format that a file name asks for cannot hold.

    Args:
        path: the file to be written.
        mode: the image's mode.
        size: its height and width.

    Raises:
        InputError: the format has no alpha or is limited to smaller sides.
    """
    file_format = format_of(path)
    if mode.endswith("A") and file_format in ("JPEG", "BMP"):
        raise InputError(f"{path}: {file_format} cannot hold the photo's transparency; use a name in .png.")
    if max(size) > _LARGEST_SIDE.get(file_format, max(size)):
        raise InputError(
            f"{path}: {file_format} holds sides up to {_LARGEST_SIDE[file_format]} px, not {max(size)}; use .png."
        )


def encode(image: Image.Image, path: Path) -> bytes:
    """The bytes of an image file in the format that the name asks for, metadata included.

    Raises:
        InputError: the format cannot hold the image.
    """
    file_format = format_of(path)
    options: dict[str, Any] = {key: image.info[key] for key in _CARRIED if key in image.info}
    options |= _WRITTEN[file_format]
    buffer = io.BytesIO()
    try:
        image.save(buffer, file_format, **options)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: {file_format} cannot hold this image ({error}); use a name in .png.") from error
    return buffer.getvalue()
