"""Photos: the short form of `refine` for files, PIL images and arrays."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from refiner.devices import pick_devices
from refiner.engine.refine import refine
from refiner.errors import BudgetError, InputError
from refiner.images.masks import Hole, MaskOptions, read_mask
from refiner.images.reading import Source, read_picture
from refiner.images.writing import encode, format_of
from refiner.memory import is_out_of_memory
from refiner.models.placement import spread
from refiner.models.registry import load_model
from refiner.settings import Settings, load_preset

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from refiner.engine.plan import Plan
    from refiner.engine.result import Progress, Result
    from refiner.images.picture import Picture
    from refiner.models.inpainter import Inpainter


def inpaint(
    image: Source,
    mask: Source | None = None,
    model: str | Inpainter = "lama-small",
    *,
    settings: Settings | str = "default",
    mask_options: MaskOptions | None = None,
    device: str = "auto",
    progress: Callable[[Progress], object] | None = None,
) -> Picture:
    """Remove what the mask covers from a photo.

    Args:
        image: a path, a PIL image, or an array (H,W), (H,W,3) or (H,W,4) of 8 or 16 bits.
        mask: a path, a PIL image, or an array (H,W), of the photo's size; anything above 0 is removed. None where
            `mask_options` take it from the photo's alpha.
        model: a model's name, the path of a weights file, `module:attribute`, or an inpainter.
        settings: settings, or the name or file of a preset.
        mask_options: how the mask is read.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`. An inpainter that is a module is moved there. Several,
            separated by commas, share the network.
        progress: called after each prediction, see `refine`.

    Returns:
        The photo in its own mode, depth and size, equal to the input outside the hole: `save(path)` writes it,
        `to_pil()` gives a PIL image, `numpy.asarray` an array. A preset with a pixel budget shrinks larger photos; a
        warning says so.

    Raises:
        RefinerError: the input, the settings or the model cannot be used; the message says why.
    """
    options = mask_options or MaskOptions()
    if mask is None and not options.from_alpha:
        raise InputError("mask: must be given, unless mask_options takes it from the photo's alpha.")
    if mask is not None and options.from_alpha:
        raise InputError("mask: is not used where mask_options takes it from the photo's alpha; leave one of them out.")
    picture, hole = read_photo(image, mask, options)
    if isinstance(settings, str):
        settings = load_preset(settings)
    network = load_model(model) if isinstance(model, str) else model
    if hole.warning is not None:
        warnings.warn(hole.warning, stacklevel=2)
    if picture.stored_depth is not None:
        warnings.warn(
            f"{picture.name}: holds {picture.stored_depth} bits a channel, of which {picture.depth} were read.",
            stacklevel=2,
        )
    filled, result = fill(network, picture, hole, settings, pick_devices(device), progress)
    if result.shrunk_from is not None:
        (before_height, before_width), (height, width) = picture.size, filled.size
        warnings.warn(
            f"{picture.name}: was shrunk from {before_width}x{before_height} to {width}x{height}, as pixel_budget "
            f"{settings.pixel_budget} asks.",
            stacklevel=2,
        )
    return filled


def read_photo(image: Source, mask: Source | None, options: MaskOptions) -> tuple[Picture, Hole]:
    """A photo and its hole. Where its alpha is the hole, the photo comes without it: what was transparent is filled.

    Raises:
        InputError: see `read_picture` and `read_mask`.
    """
    picture = read_picture(image)
    hole = read_mask(mask, picture, options)
    return (replace(picture, alpha=None) if options.from_alpha else picture), hole


def stays_as_it_is(picture: Picture, hole: Hole, target: Path, quality: int | None) -> bool:
    """Whether the result is the photo's very file: there is nothing to remove, and the format is its own."""
    return not hole.mask.any() and format_of(target) == picture.format and quality is None


def as_file(filled: Picture, hole: Hole, original: Path, target: Path, quality: int | None) -> bytes:
    """The result as a file.

    Raises:
        InputError: the format cannot hold the picture.
    """
    if stays_as_it_is(filled, hole, target, quality):
        return original.read_bytes()
    return encode(filled, target, quality=quality)


def fill(
    model: Inpainter,
    picture: Picture,
    hole: Hole,
    settings: Settings,
    devices: Sequence[torch.device],
    progress: Callable[[Progress], object] | None = None,
    on_plan: Callable[[Plan], object] | None = None,
) -> tuple[Picture, Result]:
    """Fill a photo's hole; gives the photo and all that `refine` reports.

    The model is moved to the devices; where there are several, it is spread over them.

    Raises:
        RefinerError: the settings do not go together with the hole, or see `refine`.
    """
    device = devices[0]
    budget = settings.pixel_budget
    if (
        hole.weight is not None
        and settings.refine
        and budget is not None
        and picture.size[0] * picture.size[1] > budget
    ):
        raise InputError(
            f"{picture.name}: would be shrunk to the pixel_budget of {budget}, where nothing can be blended; leave out "
            "feather, or take another preset."
        )
    try:
        spread(model, devices)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise BudgetError(f"device {device}: no memory left for the model; try --device cpu.") from error
        raise
    image, mask = picture.rgb().to(device), torch.from_numpy(hole.mask)[None, None].to(device)
    result = refine(model, image, mask, settings, progress, on_plan)
    return picture.filled(result.image, hole.mask, hole.weight), result
