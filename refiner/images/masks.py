"""Masks: white is what to remove."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy import ndimage

from refiner.errors import InputError, Message, Option, SettingsError
from refiner.images.drawing import box_of
from refiner.images.orientation import is_sideways, turned
from refiner.images.planes import cmyk_to_rgb, to_8_bits
from refiner.images.reading import Source, read_stored

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from refiner.images.picture import Picture
    from refiner.images.planes import Mask, Pixels, Values

_WHITE = 255
_SAME_ASPECT = 0.01  # relative difference of aspects that rounding a size to pixels may make
_INVERTED = 0.5  # share of white above which a mask with a white border looks inverted
_LEAST_WEIGHT = np.float32(1e-3)  # the fill's least share, so that every pixel of the hole has some


@dataclass(frozen=True)
class MaskOptions:
    """How a mask is read.

    Attributes:
        threshold: values above it, of 0 to 255, are hole.
        invert: black is hole instead.
        dilate: pixels by which the hole grows, in a circle around each of its pixels.
        feather: pixels from the hole's rim inwards over which the fill blends into the photo.
        resize: scale a mask of the photo's aspect to the photo's size.
        from_alpha: the hole is where the photo is transparent; the result then has no alpha.

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
        weight: (H,W), the share of the fill in each pixel of the hole, in (0,1]; None for all of it.
        warning: what looks wrong with the mask, or None.
    """

    mask: Mask
    weight: NDArray[np.float32] | None = None
    warning: Message | None = None


@dataclass(frozen=True)
class _Brightness:
    """A mask before the threshold.

    Attributes:
        values: (H,W), upright, at the photo's size.
        opaque: (H,W), true where the mask is not fully transparent; None for everywhere.
        name: what messages call the mask.
    """

    values: Pixels
    opaque: Mask | None
    name: str


def read_mask(source: Source | None, picture: Picture, options: MaskOptions | None = None) -> Hole:
    """Read the mask of a photo.

    Args:
        source: a file, a PIL image, or an array (H,W) or (H,W,3) of 8 bits or bools; gray, color (a pixel's highest
            value counts) or 1-bit. Where it is fully transparent, there is no hole. It may be drawn on the upright
            photo or on the pixels as stored: its size says which. None where the photo's alpha is the mask.
        picture: the photo it belongs to.
        options: how to read it.

    Raises:
        InputError: the mask cannot be read, is of another size than the photo, or covers all of it.
    """
    options = options or MaskOptions()
    brightness = _of_alpha(picture) if options.from_alpha else _of_mask(source, picture, options)
    drawn: Mask = brightness.values > options.threshold
    if options.invert:
        drawn = ~drawn
    if brightness.opaque is not None:
        drawn = drawn & brightness.opaque
    warning = None if options.invert else _warning_of_inversion(drawn, brightness.name)
    hole = _dilated(drawn, options.dilate)
    if hole.all():
        raise _covers_all(brightness.name, picture, options, grown=not drawn.all())
    if not options.feather or not hole.any():
        return Hole(hole, None, warning)
    weight = _feathered(hole, options.feather)
    return Hole(hole, weight, warning or _warning_of_feather(weight, options.feather, brightness.name))


def _of_alpha(picture: Picture) -> _Brightness:
    """The photo's alpha as a mask: transparent is white."""
    if picture.alpha is None:
        raise InputError(f"{picture.name}: has no transparency to take the hole from; give a mask.")
    return _Brightness((_WHITE - to_8_bits(picture.alpha)).astype(np.uint8), None, picture.name)


def _of_mask(source: Source | None, picture: Picture, options: MaskOptions) -> _Brightness:
    if source is None:
        raise InputError(f"{picture.name}: expected a mask, or ", Option("from_alpha"), " to take it from the photo.")
    if isinstance(source, np.ndarray) and source.dtype == np.bool_:
        source = source.astype(np.uint8) * _WHITE
    stored = read_stored(source, "mask")
    turn, height, width = stored.turn, *picture.size
    as_stored = stored.planes.color.shape[:2] == (width, height) and height != width
    if turn is None and is_sideways(picture.turned) and as_stored:
        turn = picture.turned  # the mask was drawn on the photo's pixels as stored
    color, alpha, _ = turned(stored.planes, turn)
    values = _at_size_of(picture, _highest(color), stored.name, resize=options.resize)
    if alpha is None:
        return _Brightness(values, None, stored.name)
    return _Brightness(values, _at_size_of(picture, _to_8_bits(alpha), stored.name, resize=True) > 0, stored.name)


def _highest(color: Values) -> Pixels:
    """The highest of each pixel's values, in 8 bits."""
    if color.shape[2] == 4:  # noqa: PLR2004  CMYK
        color = cmyk_to_rgb(color, None)
    return _to_8_bits(color.max(axis=2))


def _to_8_bits(values: Values) -> Pixels:
    """Values in 8 bits, rounded up, so that even the smallest label in a 16-bit mask stays above 0."""
    return values if values.dtype == np.uint8 else np.ceil(values / 257).astype(np.uint8)


def _at_size_of(picture: Picture, values: Pixels, name: str, *, resize: bool) -> Pixels:
    if values.shape == picture.size:
        return values
    height, width = picture.size
    sizes = f"{name}: is {values.shape[1]}x{values.shape[0]}, {picture.name} is {width}x{height}"
    aspect = (values.shape[1] / values.shape[0]) / (width / height)
    if abs(aspect - 1) > _SAME_ASPECT:
        raise InputError(f"{sizes}; expected a mask of the picture's size.")
    if not resize:
        raise InputError(f"{sizes}; expected a mask of the picture's size, or ", Option("resize"), " to scale it.")
    return np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR))


def _dilated(hole: Mask, distance: int) -> Mask:
    if not distance or not hole.any():
        return hole
    near = _around(hole, distance + 1)  # nothing changes beyond it, and distances take time by the pixel
    grown: Mask = hole.copy()
    grown[near] = ndimage.distance_transform_edt(~hole[near]) <= distance
    return grown


def _feathered(hole: Mask, width: int) -> NDArray[np.float32]:
    """The fill's share of each pixel: small at the hole's rim, 1 from `width` pixels inwards."""
    # Half a pixel less, since the rim runs between pixels while distances are from center to center.
    near = _around(hole, 1)
    inwards = ndimage.distance_transform_edt(hole[near]) - 0.5
    weight = np.zeros(hole.shape, dtype=np.float32)
    weight[near] = np.where(hole[near], np.clip(inwards / width, _LEAST_WEIGHT, 1), 0)
    return weight


def _around(hole: Mask, margin: int) -> tuple[slice, slice]:
    """The rows and columns of the hole's bounding box, with a margin; all where there is no hole."""
    left, top, right, bottom = box_of(hole, margin) or (0, 0, *hole.shape[::-1])
    return slice(top, bottom), slice(left, right)


def _warning_of_inversion(hole: Mask, name: str) -> Message | None:
    border = np.concatenate([hole[0], hole[-1], hole[:, 0], hole[:, -1]])
    if not (hole.mean() > _INVERTED and border.all() and not hole.all()):
        return None
    share = f"{100 * hole.mean():.0f} %"
    return Message(
        (f"{name}: is white over {share} and all along its border; if it is inverted, add ", Option("invert"), ".")
    )


def _warning_of_feather(weight: NDArray[np.float32], width: int, name: str) -> Message | None:
    if weight.max() == 1:
        return None
    return Message((f"{name}: no part of the hole is wide enough for feather {width}; what is there shows through.",))


def _covers_all(name: str, picture: Picture, options: MaskOptions, *, grown: bool) -> InputError:
    """The error where the hole covers all of the photo."""
    if grown:
        return InputError(
            f"{name}: grown by {options.dilate} pixels, its hole covers all of {picture.name}; dilate less."
        )
    if options.invert:
        return InputError(
            f"{name}: inverted, it covers all of {picture.name}; black marks what to remove then, the rest is white."
        )
    return InputError(
        f"{name}: is white all over and leaves nothing of {picture.name} to go by; white marks what to remove, the "
        "rest must be black."
    )
