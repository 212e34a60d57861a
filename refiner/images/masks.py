"""Masks in: white is what to remove."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy import ndimage

from refiner.errors import InputError, SettingsError
from refiner.images.picture import to_8_bits
from refiner.images.reading import Source, is_sideways, orientation, read_plain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from refiner.images.picture import Mask, Picture

_WHITE = 255
_SAME_ASPECT = 0.01  # relative difference of aspects that rounding a size to pixels may make
_INVERTED = 0.5  # share of white above which a mask with a white border looks inverted


@dataclass(frozen=True)
class MaskOptions:
    """How a mask is read.

    Attributes:
        threshold: values above it, of 0 to 255, are hole.
        invert: black is hole instead.
        dilate: pixels the hole grows by on all sides, round.
        feather: pixels from the hole's rim inwards over which the fill blends into the photo.
        resize: scale a mask of the photo's aspect to its size.
        from_alpha: the hole is what is transparent in the photo; the result has no alpha then.

    Raises:
        SettingsError: a value is out of range.
    """

    threshold: int = 0
    invert: bool = False
    dilate: int = 0
    feather: int = 0
    resize: bool = False
    from_alpha: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < _WHITE:
            raise SettingsError(f"threshold: expected 0 to {_WHITE - 1}, got {self.threshold}.")
        if self.resize and self.from_alpha:
            raise SettingsError("resize: has no effect where the mask is the photo's own alpha; leave it out.")
        for name in ("dilate", "feather"):
            if getattr(self, name) < 0:
                raise SettingsError(f"{name}: expected pixels from 0, got {getattr(self, name)}.")


@dataclass(frozen=True)
class Hole:
    """What to remove.

    Attributes:
        mask: (H,W), true in the hole. It may be empty.
        weight: (H,W) in (0,1] in the hole, how much of the fill to take; None for all of it.
        warning: what looks wrong with the mask, in one line, or None.
    """

    mask: Mask
    weight: NDArray[np.float32] | None = None
    warning: str | None = None


def read_mask(source: Source | None, picture: Picture, options: MaskOptions | None = None) -> Hole:
    """Read the mask of a photo.

    Args:
        source: a file, a PIL image, or an array (H,W) or (H,W,3) of 8 bits or bools; gray, color (a pixel's highest
            value counts) or 1-bit. Where it has alpha, what is fully transparent is not hole. It fits the photo
            upright, or as its pixels are stored, which its size tells. None where the photo's alpha is the mask.
        picture: the photo it belongs to.
        options: how to read it.

    Raises:
        InputError: the mask cannot be read, is of another size than the photo, or covers all of it.
    """
    options = options or MaskOptions()
    if options.from_alpha:
        values, opaque, name = _transparency(picture), None, picture.name
    else:
        assert source is not None  # noqa: S101  callers take it from the alpha else
        values, opaque, name = _values(source, picture, options)
    hole: Mask = values > options.threshold
    if options.invert:
        hole = ~hole
    if opaque is not None:
        hole = hole & opaque
    warning = _suspicion(hole, name) if not options.invert else None
    drawn = hole
    if options.dilate and hole.any():
        hole = ndimage.distance_transform_edt(~hole) <= options.dilate
    if hole.all():
        raise InputError(_all_over(name, picture, options, drawn))
    weight = None
    if options.feather and hole.any():
        # Half a pixel, since the rim runs between pixels: the outermost has some of the fill, and N inwards all.
        depth = ndimage.distance_transform_edt(hole)
        weight = np.clip((depth - 0.5) / options.feather, 0, 1).astype(np.float32)
        if weight.max() < 1 and warning is None:
            warning = (
                f"{name}: no part of the hole is wide enough for feather {options.feather}; what is there shows on."
            )
        weight = np.where(hole, np.maximum(weight, np.float32(1e-3)), 0).astype(np.float32)
    return Hole(hole, weight, warning)


def _all_over(name: str, picture: Picture, options: MaskOptions, drawn: Mask) -> str:
    """Why nothing of the photo is left, in a line."""
    if not drawn.all():
        return f"{name}: grown by {options.dilate} pixels, its hole covers all of {picture.name}; dilate less."
    if options.invert:
        return f"{name}: inverted, it covers all of {picture.name}; black marks what to remove then, the rest is white."
    return (
        f"{name}: is white all over and leaves nothing of {picture.name} to go by; white marks what to remove, "
        "the rest must be black."
    )


def _values(source: Source, picture: Picture, options: MaskOptions) -> tuple[NDArray[np.uint8], Mask | None, str]:
    """The mask's brightness (H,W) at the photo's size, upright, and where it is not fully transparent."""
    image, name = read_plain(source, "mask")
    own_turn = orientation(image)
    turn = own_turn
    if own_turn is None and picture.turned is not None and is_sideways(picture.turned):
        height, width = picture.size
        if (image.height, image.width) == (width, height) and height != width:
            turn = picture.turned  # drawn on the pixels as they are stored
    if turn is not None:
        image = image.transpose(turn)
    values, opacity = _brightness(image, name)
    if values.shape != picture.size:
        values = _resized(values, name, picture, allowed=options.resize)
        opacity = None if opacity is None else _resized(opacity, name, picture, allowed=True)
    return values, None if opacity is None else opacity > 0, name


def _brightness(image: Image.Image, name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """A pixel's highest color value, and its alpha where the image has it."""
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    if image.mode.startswith("I;16"):
        return np.ceil(np.asarray(image).astype(np.float32) / 257).astype(np.uint8), None  # 1 of 65535 is above 0
    if image.mode == "F":
        raise InputError(f"{name}: holds F values without a known range, expected 8 or 16 bits; convert it first.")
    if image.mode not in ("1", "L", "LA", "RGB", "RGBA"):
        image = image.convert("RGB")
    if image.mode == "1":
        image = image.convert("L")
    values = np.asarray(image)
    alpha = values[..., -1] if image.mode.endswith("A") else None
    if alpha is not None:
        values = values[..., :-1]
    return values if values.ndim == 2 else values.max(axis=2), alpha  # noqa: PLR2004  H, W


def _resized(values: NDArray[np.uint8], name: str, picture: Picture, *, allowed: bool) -> NDArray[np.uint8]:
    height, width = picture.size
    sizes = f"{name}: is {values.shape[1]}x{values.shape[0]}, {picture.name} is {width}x{height}"
    aspect = (values.shape[1] / values.shape[0]) / (width / height)
    if abs(aspect - 1) > _SAME_ASPECT:
        raise InputError(f"{sizes}; expected a mask of the picture's size.")
    if not allowed:
        raise InputError(f"{sizes}; expected a mask of the picture's size, or --resize-mask to scale it.")
    image = Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _transparency(picture: Picture) -> NDArray[np.uint8]:
    if picture.alpha is None:
        raise InputError(f"{picture.name}: has no transparency to take the hole from; give a mask.")
    return (_WHITE - to_8_bits(picture.alpha)).astype(np.uint8)


def _suspicion(hole: Mask, name: str) -> str | None:
    border = np.concatenate([hole[0], hole[-1], hole[:, 0], hole[:, -1]])
    if hole.mean() > _INVERTED and border.all() and not hole.all():
        share = f"{100 * hole.mean():.0f} %"
        return f"{name}: is white over {share} and all along its border; if it is inverted, add --invert."
    return None
