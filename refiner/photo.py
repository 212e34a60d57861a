"""Photos: the short form of `refine` for files, PIL images and arrays."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch import nn

from refiner.budget import Plan, is_out_of_memory
from refiner.devices import pick_device
from refiner.errors import BudgetError
from refiner.images import Mask, Picture, Pixels, read_picture
from refiner.masks import read_mask
from refiner.multiscale import refine
from refiner.registry import load_model
from refiner.settings import Settings, load_preset

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL import Image

    from refiner.inpainter import Inpainter
    from refiner.result import Progress, Result


def inpaint(
    image: str | Path | Image.Image | Pixels,
    mask: str | Path | Image.Image | Pixels,
    model: str | Inpainter = "lama-small",
    *,
    settings: Settings | str = "default",
    device: str = "auto",
    progress: Callable[[Progress], object] | None = None,
) -> Image.Image:
    """Remove what the mask covers from a photo.

    Args:
        image: a path, a PIL image, or an array (H,W,3) of 8-bit RGB.
        mask: a path, a PIL image, or an array (H,W), of the photo's size; anything above 0 is removed.
        model: a model's name, the path of a weights file, or an inpainter.
        settings: settings, or the name or file of a preset.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`. An inpainter that is a module is moved there.
        progress: called after each prediction, see `refine`.

    Returns:
        The photo in its own mode and size, equal to the input outside the hole. A preset with a pixel
        budget shrinks larger photos; a warning says so.

    Raises:
        RefinerError: the input, the settings or the model cannot be used; the message says why.
    """
    picture = read_picture(image)
    hole = read_mask(mask, picture)
    if isinstance(settings, str):
        settings = load_preset(settings)
    network = load_model(model) if isinstance(model, str) else model
    filled, result = fill(network, picture, hole, settings, pick_device(device), progress)
    if result.shrunk_from is not None:
        warnings.warn(
            f"{picture.name}: was shrunk from {picture.image.width}x{picture.image.height} to "
            f"{filled.width}x{filled.height}, as pixel_budget {settings.pixel_budget} asks.",
            stacklevel=2,
        )
    return filled


def fill(
    model: Inpainter,
    picture: Picture,
    hole: Mask,
    settings: Settings,
    device: torch.device,
    progress: Callable[[Progress], object] | None = None,
    on_plan: Callable[[Plan], object] | None = None,
) -> tuple[Image.Image, Result]:
    """Fill a photo's hole; gives the photo and all that `refine` reports."""
    if isinstance(model, nn.Module):
        try:
            model.to(device)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise BudgetError(f"device {device}: no memory left for the model; try --device cpu.") from error
            raise
    image, mask = picture.rgb().to(device), torch.from_numpy(hole)[None, None].to(device)
    result = refine(model, image, mask, settings, progress, on_plan)
    return picture.filled(result.image, hole), result
