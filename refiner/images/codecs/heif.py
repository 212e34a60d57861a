"""HEIF: read and written by pillow-heif, a plug-in for Pillow, through which 8 bits a channel come; by itself all."""

from __future__ import annotations

import importlib.util
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from refiner.images.codecs.pillow import DAMAGE, DEFAULT_QUALITY, damaged, lossy_writer
from refiner.images.planes import DEEP, Planes, bits_held, from_bits, to_bits

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from refiner.images.picture import Picture

BITS = (10, 12)  # a channel, beyond 8; the first is what most programs show
_CHANNELS = {"I": 1, "L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
_SRGB = {(primaries, transfer) for primaries in (1, 2) for transfer in (1, 2, 6, 13)}  # in numbers, or as good as
_MATRICES = (1, 5, 6, 9)  # that are written: those of BT.709, of BT.601 twice, and of BT.2020


def load_plugin() -> bool:
    """Register HEIF with Pillow, for the whole process; false where pillow-heif is not installed."""
    if "HEIF" in Image.OPEN:
        return True
    if importlib.util.find_spec("pillow_heif") is None:
        return False
    import pillow_heif  # noqa: PLC0415  an extra

    pillow_heif.register_heif_opener()
    return True


def depth(image: Image.Image) -> int:
    """Bits a channel in an opened file, as pillow-heif says."""
    found = image.info.get("bit_depth")
    return found if isinstance(found, int) else 8


def decode(image: Image.Image, path: Path) -> Planes | None:
    """Read values of more than 8 bits, scaled to 16; gives None where Pillow loses nothing, or they are premultiplied.

    Raises:
        InputError: the file is damaged.
    """
    bits = depth(image)
    if bits not in BITS:
        return None
    import pillow_heif  # noqa: PLC0415  an extra

    try:
        found = pillow_heif.open_heif(path, convert_hdr_to_8bit=False, hdr_to_16bit=False)[image.tell()]
        channels = _CHANNELS.get(found.mode.partition(";")[0])
        if channels is None or not found.mode.endswith(f";{bits}"):
            return None
        rows = np.frombuffer(found.data, dtype="<u2").reshape(found.size[1], -1)
    except DAMAGE as error:
        raise damaged(path, error, "image") from error
    values = from_bits(rows[:, : found.size[0] * channels].reshape(found.size[1], -1, channels), bits)
    if channels in (_CHANNELS["LA"], _CHANNELS["RGBA"]):
        return Planes(values[..., :-1], values[..., -1], upright=True)
    return Planes(values, upright=True)


def color_space(image: Image.Image) -> dict[str, int] | None:
    """The color space that an opened file names by numbers of ITU-T H.273; None where it is sRGB, or has a profile."""
    numbers = image.info.get("nclx_profile")
    if not isinstance(numbers, dict) or image.info.get("icc_profile"):
        return None
    primaries, transfer = numbers["color_primaries"], numbers["transfer_characteristics"]
    if (primaries, transfer) in _SRGB:
        return None
    matrix = numbers["matrix_coefficients"]
    return {
        "color_primaries": primaries,
        "transfer_characteristics": transfer,
        "matrix_coefficients": matrix if matrix in _MATRICES else 6,
        "full_range_flag": 1,
    }


def write(picture: Picture, metadata: Mapping[str, Any], quality: int | None) -> bytes:
    """Write lossy, 10 or 12 bits a channel where the picture has more than 8."""
    if picture.depth < DEEP:
        return lossy_writer("HEIF")(picture, metadata, quality)
    bits = bits_held(picture.bits, BITS)
    import pillow_heif  # noqa: PLC0415  an extra

    values = to_bits(np.atleast_3d(np.asarray(picture)), bits)
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[values.shape[2]]
    buffer = io.BytesIO()
    options = {"quality": quality or DEFAULT_QUALITY, "subsampling": "4:4:4", "bit_depth": bits}
    height, width = picture.size
    pillow_heif.encode(f"{mode};{bits}", (width, height), values.tobytes(), buffer, **metadata, **options)
    return buffer.getvalue()
