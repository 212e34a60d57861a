"""The way of one photo: read, fill, restore, write. Python, the command line, batches and benchmarks all use it."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from refiner.devices import pick_devices
from refiner.engine.plan import Plan, make_plan
from refiner.engine.refine import has_aspect, refine
from refiner.errors import BudgetError, InputError, Option, RefinerWarning
from refiner.files import write_atomic
from refiner.images.masks import Hole, MaskOptions, read_mask
from refiner.images.picture import Picture
from refiner.images.reading import Source, read_picture
from refiner.images.writing import check_fits, encode, format_of, losses_in
from refiner.memory import is_out_of_memory
from refiner.models.placement import spread
from refiner.models.registry import best_model, load_model
from refiner.regions import HoleBoxes
from refiner.settings import Settings, load_preset

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from refiner.engine.result import Progress, Result, ScaleResult
    from refiner.images.picture import PilImage
    from refiner.models.inpainter import Inpainter

_SHOWN = 800  # pixels on the longer side of each picture in a notebook


def inpaint(
    image: Source,
    mask: Source | None = None,
    model: str | Inpainter | None = None,
    *,
    settings: Settings | str = "default",
    mask_options: MaskOptions | None = None,
    device: str = "auto",
    progress: Callable[[Progress], object] | None = None,
    on_scale: Callable[[ScaleResult], object] | None = None,
    guide: Source | None = None,
    avoid: Source | None = None,
    page: int | None = None,
) -> PhotoResult:
    """Remove what the mask covers from a photo.

    Args:
        image: a path, a PIL image, or an array (H,W), (H,W,3) or (H,W,4) of 8 or 16 bits.
        mask: a path, a PIL image, or an array (H,W), of the photo's size; anything above 0 is removed. None where
            `mask_options` take it from the photo's alpha.
        model: a model's name, the path of a weights file, `module:attribute`, or an inpainter; None for the best
            one on this machine.
        settings: settings, or the name or file of a preset.
        mask_options: how the mask is read.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`. An inpainter that is a module is moved there. Several,
            separated by commas, share the network.
        progress: called after each prediction, see `refine`.
        on_scale: called with each scale's result, see `refine`.
        guide: a fill made by any other tool, of any size and the photo's aspect; it is brought up to the photo's size.
        avoid: mask of what must not be copied into the hole, given as `mask` is.
        page: which page of an image file of several, or which frame of an animation, from 1; None for the only one.

    Returns:
        The photo in its own mode, depth and size, equal to the input outside the hole: `save(path)` writes it,
        `to_pil()` gives a PIL image, `numpy.asarray` an array. A preset with a pixel budget shrinks larger photos; a
        warning says so.

    Raises:
        RefinerError: the input, the settings or the model cannot be used; the message says why.
    """
    photo = read_photo(image, mask, mask_options, page)
    if isinstance(settings, str):
        settings = load_preset(settings)
    if model is None:
        model = best_model()
    network = load_model(model) if isinstance(model, str) else model
    for warning in photo.warnings():
        warnings.warn(warning, RefinerWarning, stacklevel=2)
    photo = photo.with_hints(guide, avoid)
    result = photo.inpaint(network, settings, pick_devices(device), progress, on_scale=on_scale)
    shrinking = result.shrinking()
    if shrinking is not None:
        warnings.warn(
            f"{photo.picture.name}: {shrinking}, as pixel_budget {settings.pixel_budget} asks.",
            RefinerWarning,
            stacklevel=2,
        )
    return result


def read_photo(
    image: Source, mask: Source | None = None, options: MaskOptions | None = None, page: int | None = None
) -> Photo:
    """Read a photo and its hole. Where the alpha marks the hole, it is dropped: the transparent part gets filled.

    Args:
        image: see `inpaint`.
        mask: see `inpaint`.
        options: how the mask is read.
        page: see `inpaint`.

    Raises:
        InputError: see `read_picture` and `read_mask`; or both or neither of a mask and an alpha are to be taken.
    """
    options = options or MaskOptions()
    if mask is None and not options.from_alpha:
        raise InputError("mask: must be given, unless mask_options takes it from the photo's alpha.")
    if mask is not None and options.from_alpha:
        raise InputError("mask: is not used where mask_options takes it from the photo's alpha; leave one of them out.")
    picture = read_picture(image, page, choosable=True)
    hole = read_mask(mask, picture, options)
    path = Path(image) if isinstance(image, (str, Path)) else None
    return Photo(replace(picture, alpha=None) if options.from_alpha else picture, hole, path)


@dataclass(frozen=True)
class Photo:
    """A photo that was read, with what to remove from it.

    Attributes:
        picture: the photo.
        hole: what to remove.
        path: its file; None where it came as an image or an array.
        guide: a fill made elsewhere, (1,3,h,w) in [0,1], of any size and the photo's aspect; None for none.
        avoid: (H,W), bool, true where nothing may be copied from into the hole; None for nowhere.
    """

    picture: Picture
    hole: Hole
    path: Path | None = None
    guide: Tensor | None = None
    avoid: NDArray[np.bool_] | None = None

    def with_hints(self, guide: Source | None = None, avoid: Source | None = None) -> Photo:
        """The photo with `guide` and `avoid` read from a file, an image or an array each.

        Raises:
            InputError: one of them cannot be read or does not fit the photo.
        """
        fill = None if guide is None else _read_guide(guide, self)
        avoided = None if avoid is None else read_mask(avoid, self.picture).mask
        return replace(self, guide=fill, avoid=avoided)

    def warnings(self) -> list[str]:
        """What looks wrong with the mask, or could not be read of the photo; a line each."""
        lines = [] if self.hole.warning is None else [str(self.hole.warning)]
        picture = self.picture
        if picture.stored_depth is not None:
            lines.append(
                f"{picture.name}: holds {picture.stored_depth} bits a channel, of which {picture.depth} were read."
            )
        return lines

    def check_fits(self, path: Path) -> None:
        """Refuse, before the work, a file whose format could not hold the result.

        Raises:
            InputError: see `refiner.images.writing.check_fits`.
        """
        check_fits(path, self.picture.mode, self.picture.size, self.picture.metadata)

    def losses_in(self, path: Path, quality: int | None = None) -> list[str]:
        """What the photo loses in the format of a file, a line each; nothing where the photo's file is copied."""
        return [] if self.is_copied_to(path, quality) else losses_in(self.picture, path, quality)

    def is_copied_to(self, path: Path, quality: int | None = None) -> bool:
        """Whether the photo's own file is the result: there is nothing to remove, and format and quality stay."""
        return self.path is not None and not self.hole.mask.any() and quality is None and self._has_format_of(path)

    def _has_format_of(self, path: Path) -> bool:
        return format_of(path) == self.picture.format

    def plan(self, model: Inpainter, settings: Settings, devices: Sequence[torch.device]) -> Plan:
        """The plan for filling the hole, without any of the work.

        Args:
            model: the inpainter.
            settings: of the refinement.
            devices: where to compute.

        Raises:
            InputError: there is no hole.
            RefinerError: see `make_plan`.
        """
        if not self.hole.mask.any():
            raise InputError("mask: marks nothing to remove.")
        guide = False if self.guide is None else (self.guide.shape[-2], self.guide.shape[-1])
        return make_plan(HoleBoxes.of(self.hole.mask), model, settings, guide=guide, device=devices[0], devices=devices)

    def inpaint(
        self,
        model: Inpainter,
        settings: Settings,
        devices: Sequence[torch.device],
        progress: Callable[[Progress], object] | None = None,
        on_plan: Callable[[Plan], object] | None = None,
        *,
        on_scale: Callable[[ScaleResult], object] | None = None,
    ) -> PhotoResult:
        """Fill the hole.

        Args:
            model: the inpainter; it is moved to the devices, and spread over them where there are several.
            settings: of the refinement.
            devices: where to compute.
            progress: see `refine`.
            on_plan: see `refine`.
            on_scale: see `refine`.

        Raises:
            RefinerError: the settings shrink the photo, but the hole has feather; or see `refine`.
        """
        self._check_blending(settings)
        _place(model, devices)
        image = self.picture.rgb().to(devices[0])
        mask = torch.from_numpy(self.hole.mask)[None, None].to(devices[0])
        avoid = None if self.avoid is None else torch.from_numpy(self.avoid)[None, None]
        result = refine(
            model, image, mask, settings, progress, on_plan, on_scale=on_scale, guide=self.guide, avoid=avoid
        )
        filled = self.picture.filled(result.image, self.hole.mask, self.hole.weight)
        return PhotoResult(self, filled, result, model, settings)

    def _check_blending(self, settings: Settings) -> None:
        budget = settings.pixel_budget
        shrinks = settings.refine and budget is not None and self.picture.size[0] * self.picture.size[1] > budget
        if self.hole.weight is not None and shrinks:
            raise InputError(
                f"{self.picture.name}: would be shrunk to the pixel_budget of {budget}, where nothing can be blended; "
                "leave out feather, or take another preset."
            )


def _read_guide(source: Source, photo: Photo) -> Tensor:
    """Read a fill made elsewhere: (1,3,h,w) in [0,1]."""
    fill = read_picture(source)
    (height, width), (own_height, own_width) = fill.size, photo.picture.size
    if not has_aspect((height, width), (own_height, own_width)):
        raise InputError(
            f"{fill.name}: is {width}x{height}, which is not the aspect of {own_width}x{own_height}; expected a fill "
            "of the whole photo, at any size."
        )
    if fill.alpha is not None:
        hole = torch.from_numpy(photo.hole.mask)[None, None].float()
        inside = functional.interpolate(hole, size=(height, width), mode="nearest")[0, 0].numpy() > 0
        if not fill.alpha[inside].any():
            raise InputError(f"{fill.name}: is transparent all over the hole; expected a fill there.")
    return fill.rgb()


@dataclass(frozen=True)
class PhotoResult:
    """A photo with its hole filled.

    Attributes:
        photo: the photo that was given.
        picture: the filled photo, in its own mode and depth; equal to the given one outside the hole.
        refinement: what happened at each scale.
        model: the inpainter.
        settings: of the refinement.
    """

    photo: Photo
    picture: Picture
    refinement: Result
    model: Inpainter
    settings: Settings

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.picture.size

    @property
    def network_ran(self) -> bool:
        """Whether the network made some of the fill, at any scale."""
        return any({"model", "features"} & set(scale.shares) for scale in self.refinement.scales)

    def shrinking(self) -> str | None:
        """Words for the sizes that the photo was shrunk from and to; None where it was not shrunk."""
        if self.refinement.shrunk_from is None:
            return None
        (before_height, before_width), (height, width) = self.photo.picture.size, self.size
        return f"was shrunk from {before_width}x{before_height} to {width}x{height}"

    def encode(self, path: Path, *, quality: int | None = None) -> bytes:
        """The file's bytes, in the format that its name asks for.

        Raises:
            InputError: the format is not known or cannot hold the picture.
        """
        if self.photo.is_copied_to(path, quality) and self.photo.path is not None:
            return self.photo.path.read_bytes()
        return encode(self.picture, path, quality=quality)

    def save(self, path: str | Path, *, quality: int | None = None) -> None:
        """Write a file in the format that its name asks for, metadata included; whole or not at all.

        Args:
            path: the file; one that exists is replaced.
            quality: 1 to 100 in formats that have one; see `refiner.images.writing.encode` for the default.

        Raises:
            InputError: the format is not known or cannot hold the picture, or the file cannot be written.
        """
        path = Path(path)
        write_atomic({path: self.encode(path, quality=quality)})

    def to_pil(self) -> PilImage:
        """An 8-bit PIL image of mode L, LA, RGB, RGBA or CMYK, with its metadata in `info`."""
        return self.picture.to_pil()

    def _repr_png_(self) -> bytes:
        """What a notebook shows: before and after side by side, made smaller."""
        after = self.to_pil().convert("RGB")
        after.thumbnail((_SHOWN, _SHOWN))
        before = self.photo.picture.to_pil().convert("RGB").resize(after.size)
        sides = np.concatenate([np.asarray(before), np.full((after.height, 8, 3), 255, np.uint8), np.asarray(after)], 1)
        return encode(Picture(sides), Path("notebook.png"))

    def to_dict(self) -> dict[str, Any]:
        """What was done, in values that JSON takes; sizes are width and height."""
        spec = self.model.spec
        return {
            "size": list(self.size[::-1]),
            "settings": asdict(self.settings),
            "train_size": spec.train_size,
            "learning_rate": self.settings.lr or spec.learning_rate,
            **self.refinement.to_dict(),
        }

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Color and alpha: (H,W) for gray without alpha, else (H,W,C)."""
        return self.picture.__array__(dtype, copy)


def _place(model: Inpainter, devices: Sequence[torch.device]) -> None:
    try:
        spread(model, devices)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise BudgetError(
                f"device {devices[0]}: no memory left for the model; try ", Option("device", "cpu"), "."
            ) from error
        raise
