"""Pictures with random holes, to measure inpainters on: the same for everybody who has the same photos.

What is drawn for a photo depends on its name and the seed alone, not on the photos beside it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from refiner.errors import InputError
from refiner.evaluation.random_masks import load_mask_kind
from refiner.files import make_folder, write_atomic
from refiner.images.pairs import MASK_NAME, image_files
from refiner.images.picture import Picture
from refiner.images.reading import read_picture
from refiner.images.writing import encode

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path


def draw_set(
    images: Path, out: Path, *, kind: str, size: int, crops: int = 1, seed: int = 0, overwrite: bool = False
) -> tuple[int, list[tuple[Path, str]]]:
    """Crop photos and draw holes.

    Args:
        images: folder of photos.
        out: folder for `NAME_crop000.png` and `NAME_crop000_mask000.png`.
        kind: of hole, see `load_mask_kind`.
        size: side of the crops in pixels; a photo's short side is scaled to it first.
        crops: how many of each photo.
        seed: of crops and holes.
        overwrite: replace files that exist.

    Returns:
        How many pictures were made, and the files left out with the reason.

    Raises:
        InputError: there are no photos, files exist already, or pictures of another draw lie in the folder.
        SettingsError: the kind is not known.
    """
    shape = load_mask_kind(kind)
    files, left_out = image_files(images)
    paths = [path for path in files if not MASK_NAME.fullmatch(path.stem)]
    if not paths:
        raise InputError(f"{images}: has no photos.")
    make_folder(out)
    _refuse_strays(out, {f"{path.stem}_crop{number:03d}" for path in paths for number in range(crops)})
    made = 0
    taken: dict[str, Path] = {}
    for path in paths:
        if path.stem in taken:
            left_out.append((path, f"has the name of {taken[path.stem].name}"))
            continue
        taken[path.stem] = path
        try:
            picture = read_picture(path)
        except InputError as error:
            left_out.append((path, str(error)))
            continue
        photo = _scaled(picture, size)
        for number in range(crops):
            key = hashlib.sha256(f"{seed}/{path.stem}/{number}".encode()).digest()
            rng = np.random.default_rng(np.frombuffer(key, dtype=np.uint32))
            top, left = (int(rng.integers(extent - size + 1)) for extent in photo.shape[:2])
            hole = shape.draw(size, size, rng)
            stem = out / f"{path.stem}_crop{number:03d}"
            targets = {
                stem.with_name(f"{stem.name}.png"): photo[top : top + size, left : left + size],
                stem.with_name(f"{stem.name}_mask000.png"): hole[..., None],
            }
            existing = next((target for target in targets if target.exists()), None)
            if existing is not None and not overwrite:
                raise InputError(f"{existing}: exists already; choose another folder or add --overwrite.")
            write_atomic({target: encode(Picture(values), target) for target, values in targets.items()})
            made += 1
    return made, left_out


def _refuse_strays(out: Path, names: Container[str]) -> None:
    """Refuse a folder with pictures that this draw does not replace: they would be measured among its own."""
    for path in image_files(out)[0]:
        match = MASK_NAME.fullmatch(path.stem)
        if (match["name"] if match else path.stem) not in names:
            raise InputError(f"{path}: is of another draw; choose another folder, or remove it.")


def _scaled(picture: Picture, size: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """8-bit RGB whose short side is `size`."""
    height, width = picture.size
    factor = size / min(height, width)
    image = Picture(picture.color).to_pil().convert("RGB")
    target = (max(size, round(width * factor)), max(size, round(height * factor)))
    return np.asarray(image.resize(target, Image.Resampling.BICUBIC, reducing_gap=3.0))
