"""Pictures with random holes, to measure inpainters on: the same for everybody who has the same photos.

A photo's crops and holes depend on its name and the seed alone, not on the other photos.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation, gaussian_filter

from refiner.errors import InputError, Option
from refiner.evaluation.random_masks import load_mask_kind
from refiner.files import make_folder, write_atomic
from refiner.images.pairs import MASK_NAME, image_files
from refiner.images.picture import Picture
from refiner.images.reading import read_rgb
from refiner.images.writing import encode

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path

    from numpy.typing import NDArray

    from refiner.evaluation.random_masks import MaskKind
    from refiner.images.planes import Pixels

_TRIED = 16  # crops and holes, of which the one across the strongest edges is kept
_EDGE_AREA = 1 / 256  # of the crop's side, sigma over which an edge has to be straight
_WEIGHTS = (0.299, 0.587, 0.114)  # of ITU-R BT.601 luma


def draw_set(
    images: Path,
    out: Path,
    *,
    kind: str,
    size: int,
    crops: int = 1,
    seed: int = 0,
    over_edges: bool = False,
    overwrite: bool = False,
) -> tuple[int, list[tuple[Path, str]]]:
    """Crop photos, and draw a hole for each crop.

    Args:
        images: folder of photos.
        out: folder for `NAME_crop000.png` and `NAME_crop000_mask000.png`.
        kind: kind of hole, see `load_mask_kind`.
        size: side of the crops in pixels; a photo's short side is scaled to it first.
        crops: how many crops of each photo.
        seed: of the random crops and holes.
        over_edges: draw several crops and holes for each, and keep the hole whose rim the strongest straight edges
            cross: what hides structure.
        overwrite: replace files that exist.

    Returns:
        How many pictures were made, and the files left out with the reason.

    Raises:
        InputError: there are no photos, files exist already, or pictures of another draw lie in the folder.
        SettingsError: the kind is not known.
    """
    shape = load_mask_kind(kind)
    paths, left_out = _photos_in(images)
    make_folder(out)
    _refuse_strays(out, {_crop_name(path, number) for path in paths for number in range(crops)})
    made = 0
    for path in paths:
        try:
            photo = _scaled(read_rgb(path), size)
        except InputError as error:
            left_out.append((path, str(error)))
            continue
        for number in range(crops):
            crop, hole = _draw(photo, shape, size, _generator(seed, path, number), _TRIED if over_edges else 1)
            _write_pair(out / _crop_name(path, number), crop, hole, overwrite=overwrite)
            made += 1
    return made, left_out


def _photos_in(folder: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """The photos of a folder, one of each name, and the files left out with the reason."""
    files, left_out = image_files(folder)
    photos: dict[str, Path] = {}
    for path in files:
        if MASK_NAME.fullmatch(path.stem):
            continue
        if path.stem in photos:
            left_out.append((path, f"has the name of {photos[path.stem].name}"))
        else:
            photos[path.stem] = path
    if not photos:
        raise InputError(f"{folder}: has no photos.")
    return list(photos.values()), left_out


def _refuse_strays(out: Path, names: Container[str]) -> None:
    """Refuse a folder with pictures that this draw does not replace: they would be measured with the new ones."""
    for path in image_files(out)[0]:
        match = MASK_NAME.fullmatch(path.stem)
        if (match["name"] if match else path.stem) not in names:
            raise InputError(f"{path}: is of another draw; choose another folder, or remove it.")


def _crop_name(photo: Path, number: int) -> str:
    return f"{photo.stem}_crop{number:03d}"


def _generator(seed: int, photo: Path, number: int) -> np.random.Generator:
    """Random numbers for one crop of a photo, independent of all other crops."""
    key = hashlib.sha256(f"{seed}/{photo.stem}/{number}".encode()).digest()
    return np.random.default_rng(np.frombuffer(key, dtype=np.uint32))


def _scaled(photo: Image.Image, size: int) -> Pixels:
    """The photo (H,W,3), scaled to `size` on its short side."""
    factor = size / min(photo.size)
    target = (max(size, round(photo.width * factor)), max(size, round(photo.height * factor)))
    return np.asarray(photo.resize(target, Image.Resampling.BICUBIC, reducing_gap=3.0))


def _draw(photo: Pixels, shape: MaskKind, size: int, rng: np.random.Generator, tries: int) -> tuple[Pixels, Pixels]:
    """A random crop (size,size,3) and a hole for it (size,size), 255 inside; of several, the one across most edges."""
    drawn = []
    for _ in range(tries):
        top, left = (int(rng.integers(extent - size + 1)) for extent in photo.shape[:2])
        drawn.append((photo[top : top + size, left : left + size], shape.draw(size, size, rng)))
    return drawn[0] if tries == 1 else max(drawn, key=lambda each: _edges_across(*each))


def _edges_across(crop: Pixels, hole: Pixels) -> float:
    """How strong straight edges are on average along a hole's rim, from the structure tensor's two eigenvalues."""
    luma = crop.astype(np.float32) @ np.asarray(_WEIGHTS, np.float32)
    down, right = np.gradient(luma)
    sigma = max(_EDGE_AREA * min(luma.shape), 1.0)

    def around(x: NDArray[np.float32]) -> NDArray[np.float32]:
        blurred: NDArray[np.float32] = gaussian_filter(x, sigma)
        return blurred

    straight = np.hypot(around(down * down) - around(right * right), 2 * around(down * right))
    inside = hole > 0
    return float(np.sqrt(straight)[binary_dilation(inside, iterations=2) & ~inside].mean())


def _write_pair(stem: Path, crop: Pixels, hole: Pixels, *, overwrite: bool) -> None:
    targets = {
        stem.with_name(f"{stem.name}.png"): crop,
        stem.with_name(f"{stem.name}_mask000.png"): hole[..., None],
    }
    existing = next((target for target in targets if target.exists()), None)
    if existing is not None and not overwrite:
        raise InputError(f"{existing}: exists already; choose another folder or add ", Option("overwrite"), ".")
    write_atomic({target: encode(Picture(values), target) for target, values in targets.items()})
