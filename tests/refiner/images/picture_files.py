"""Pictures and files that tests of images share."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from refiner.images.picture import Picture
from refiner.images.reading import read_picture

LOSSLESS = ["png", "tif", "webp", "bmp", "ppm"]


def noise(*shape: int, depth: int = 8) -> np.ndarray:
    """The same values for the same shape, whichever tests ran before."""
    return np.random.default_rng(0).integers(0, 2**depth, shape, dtype=np.uint16 if depth == 16 else np.uint8)


def hole_of(height: int, width: int) -> np.ndarray:
    hole = np.zeros((height, width), dtype=bool)
    hole[height // 4 : height // 2, width // 3 : width // 2 + 2] = True
    return hole


def saved(tmp_path, image: Image.Image, name: str = "photo.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def deep_file(tmp_path, values: np.ndarray, name: str):
    """A 16-bit file written by OpenCV, whose order is blue, green, red."""
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}
    stored = values[..., order[values.shape[2]]] if values.ndim == 3 else values
    assert cv2.imwrite(str(tmp_path / name), stored)
    return tmp_path / name


def reread(data: bytes, tmp_path, suffix: str) -> Picture:
    path = tmp_path / f"reread.{suffix}"
    path.write_bytes(data)
    return read_picture(path)
