"""Load Photo and Save Photo: a photo goes through ComfyUI beside its IMAGE, and keeps its depth and metadata."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

import refiner
from refiner.files import write_atomic
from refiner.images import formats
from refiner.images.reading import read_picture
from refiner.images.writing import default_suffix, encode, losses_in

from . import host
from .masks import ABSENT, checked, masks_of, size_in_words
from .node import PHOTO, Done, Input, Node, Output

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

_AS_THE_PHOTO = "as the photo"
_IN_BROWSERS = (".png", ".jpg", ".webp", ".avif", ".bmp")
_PREVIEW = 2048  # pixels on the longer side of a preview, for files that browsers cannot show


def load_photo(image: str) -> Done:
    """Read a photo.

    Args:
        image: a file, as ComfyUI names it.

    Returns:
        The photo; its IMAGE (1,H,W,3), float32 in [0,1]; its transparency as a MASK (1,H,W), 64x64 zeros where it has
        none.

    Raises:
        InputError: the file cannot be read.
    """
    picture = read_picture(host.input_path(image))
    mask = torch.zeros(1, *ABSENT)
    if picture.alpha is not None:
        full = np.iinfo(picture.alpha.dtype).max
        mask = torch.from_numpy(1 - picture.alpha.astype(np.float32) / full)[None]
    return Done((picture, picture.rgb().movedim(1, -1).contiguous(), mask))


def save_photo(
    photo: refiner.Picture,
    image: Tensor,
    filename_prefix: str,
    format: str,  # noqa: A002  what ComfyUI shows
    quality: int,
    mask: Tensor | None = None,
) -> Done:
    """Write a photo with pixels from an IMAGE in it, in the photo's own mode and depth and with its metadata.

    Args:
        photo: the photo as it was read.
        image: (B,H,W,C), of the photo's size; each picture of the batch gives a file.
        filename_prefix: of the files, as in ComfyUI's own Save Image.
        format: what the names end in, or `as the photo`.
        quality: 1 to 100 in formats that have one; 0 for the format's own.
        mask: (B,H,W), above 0 where pixels are taken from the image; None for everywhere.

    Raises:
        InputError: sizes differ, or the format cannot hold the photo.
    """
    checked(image)
    if tuple(image.shape[1:3]) != photo.size:
        raise refiner.InputError(
            f"image: is {size_in_words(image)}, the photo {photo.size[1]}x{photo.size[0]}; expected the size of the "
            "photo, so leave out what resizes."
        )
    masks = [torch.ones(photo.size)] * len(image) if mask is None else masks_of(mask, image)
    suffix = default_suffix(Path(f"photo{_suffix_of(photo)}")) if format == _AS_THE_PHOTO else format
    saved, shown, said = [], [], []
    for rgb, part in zip(image, masks, strict=True):
        hole = (part > 0).cpu().numpy()
        path, subfolder = host.output_path(filename_prefix, photo.size, suffix)
        filled = _opaque(photo, hole).filled(rgb[None, ..., :3].movedim(-1, 1), hole)
        said = losses_in(filled, path, quality or None)
        write_atomic({path: encode(filled, path, quality=quality or None)})
        saved.append({"filename": path.name, "subfolder": subfolder, "type": "output"})
        shown.append(saved[-1] if suffix in _IN_BROWSERS else _preview(filled, path))
    host.say([*said, *(str(Path(file["subfolder"]) / file["filename"]) for file in saved)])
    paths = "\n".join(str(Path(file["subfolder"]) / file["filename"]) for file in saved)
    return Done((paths,), {"images": shown, "saved": saved})


def _suffix_of(photo: refiner.Picture) -> str:
    kind = formats.by_name(photo.format)
    return kind.suffix if kind.suffixes else ""


def _opaque(photo: refiner.Picture, hole: NDArray[np.bool_]) -> refiner.Picture:
    """The photo without its alpha where the hole covers all that is transparent, as after ComfyUI's mask editor."""
    if photo.alpha is None or not hole.any():
        return photo
    opaque = photo.alpha == np.iinfo(photo.alpha.dtype).max
    return replace(photo, alpha=None) if (opaque | hole).all() and not opaque.all() else photo


def _preview(picture: refiner.Picture, path: Path) -> dict[str, str]:
    """A small JPEG for browsers that cannot show the file itself."""
    small = picture.to_pil().convert("RGB")
    small.thumbnail((_PREVIEW, _PREVIEW))
    target = host.preview_path(f"{path.stem}.jpg")
    small.save(target)
    return {"filename": target.name, "subfolder": "", "type": "temp"}


def photo_files() -> list[str]:
    """Names of the photos in ComfyUI's input folder."""
    return host.input_files(formats.suffixes())


def is_there(image: str) -> bool | str:
    """True, or why there is no such file."""
    try:
        there = host.input_path(image).is_file()
    except refiner.InputError as error:
        return str(error)
    return there or f"{image}: no such file in ComfyUI's input folder; choose another."


def content_of(image: str) -> str:
    """A digest of the file, which changes when the file does."""
    return hashlib.sha256(host.input_path(image).read_bytes()).hexdigest()


def suffixes() -> list[str]:
    """The formats that files can be written in."""
    return [_AS_THE_PHOTO, *(kind.suffix for kind in formats.writable())]


LOAD_PHOTO = Node(
    id="RefinerLoadPhoto",
    name="Load Photo",
    description="A photo with its bit depth, EXIF and XMP data, color profile and transparency, for Save Photo.",
    run=load_photo,
    inputs=(Input("image", "COMBO", "A file in ComfyUI's input folder.", choices=photo_files, upload=True),),
    outputs=(
        Output("photo", PHOTO, "What Save Photo needs to write the photo back."),
        Output("IMAGE", "IMAGE", "The photo upright, as RGB."),
        Output("MASK", "MASK", "What is transparent in it, or was drawn in the mask editor."),
    ),
    validate=is_there,
    fingerprint=content_of,
)

SAVE_PHOTO = Node(
    id="RefinerSavePhoto",
    name="Save Photo",
    description="Writes a photo back with its own depth and metadata. Where the mask is black, its pixels stay exact.",
    run=save_photo,
    inputs=(
        Input("photo", PHOTO, "From Load Photo."),
        Input("image", "IMAGE", "What to put into the photo; of its size."),
        Input("filename_prefix", "STRING", "As in Save Image.", {"default": "photo"}),
        Input("format", "COMBO", "What kind of file.", {"default": _AS_THE_PHOTO}, choices=suffixes),
        Input(
            "quality", "INT", "1 to 100 in lossy formats; 0 for the format's own.", {"default": 0, "min": 0, "max": 100}
        ),
        Input("mask", "MASK", "Where to take the image: Refine Inpaint's mask. All of it if left out.", optional=True),
    ),
    outputs=(Output("paths", "STRING", "The files written, in ComfyUI's output folder, a line each."),),
    is_end=True,
)
