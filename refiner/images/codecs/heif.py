"""HEIF: read and written by pillow-heif, a plug-in for Pillow."""

from __future__ import annotations

import importlib.util

from PIL import Image


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
