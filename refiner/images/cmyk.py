"""Between CMYK and RGB: by the picture's ICC profile where it has one that works, else by the plain formula."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageCms

if TYPE_CHECKING:
    from numpy.typing import NDArray


def cmyk_to_rgb(values: NDArray[Any], profile: bytes | None) -> NDArray[np.uint8]:
    """(H,W,4) 8-bit CMYK, 255 being full ink, to (H,W,3) sRGB."""
    return _converted(values, "CMYK", "RGB", profile)


def rgb_to_cmyk(values: NDArray[Any], profile: bytes | None) -> NDArray[np.uint8]:
    """(H,W,3) 8-bit sRGB to (H,W,4) CMYK."""
    return _converted(values, "RGB", "CMYK", profile)


def _converted(values: NDArray[Any], before: str, after: str, profile: bytes | None) -> NDArray[np.uint8]:
    image = Image.frombytes(before, (values.shape[1], values.shape[0]), np.ascontiguousarray(values).tobytes())
    if profile:
        try:
            inks = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            screen = ImageCms.createProfile("sRGB")
            first, second = (inks, screen) if before == "CMYK" else (screen, inks)
            converted = ImageCms.profileToProfile(image, first, second, outputMode=after)
            if converted is not None:
                return np.asarray(converted)
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # a damaged profile, or one for other inks: it is kept, and the plain formula used
    return np.asarray(image.convert(after))
