"""Pictures: whatever is not a hole leaves as it came, in its own mode and depth."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from refiner.images.cmyk import cmyk_to_rgb, rgb_to_cmyk

if TYPE_CHECKING:
    from collections.abc import Mapping

Pixels = NDArray[np.uint8]
Values = NDArray[Any]  # of 8 or 16 bits
Mask = NDArray[np.bool_]

_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow weighs


@dataclass(frozen=True)
class Picture:
    """A photo, upright, with all that must survive the work.

    Attributes:
        color: (H,W,1) gray, (H,W,3) RGB or (H,W,4) CMYK, 8 or 16 bits a channel.
        alpha: (H,W) of the same depth, or None.
        name: what to call it in messages.
        format: Pillow's name of the file format it came in, or None.
        metadata: EXIF, ICC profile, DPI and so on, as Pillow's `save` takes them.
        turned: the `Image.Transpose` that made it upright; None where it was.
        stored_depth: bits a channel in the file, where they could not all be read; else None.
    """

    color: Values
    alpha: Values | None = None
    name: str = "image"
    format: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    turned: Image.Transpose | None = None
    stored_depth: int | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.color.shape[0], self.color.shape[1]

    @property
    def depth(self) -> int:
        """Bits a channel: 8 or 16."""
        return 8 * self.color.itemsize

    @property
    def mode(self) -> str:
        """L, RGB or CMYK, with an A at the end where there is alpha."""
        return _MODES[self.color.shape[2]] + ("" if self.alpha is None else "A")

    def rgb(self) -> torch.Tensor:
        """RGB in [0,1] for a network: (1,3,H,W), float32. Gray is repeated, alpha left out."""
        values = self.color
        if self.mode.startswith("CMYK"):
            values = cmyk_to_rgb(values, self.metadata.get("icc_profile"))
        scaled = torch.from_numpy(values.astype(np.float32) / np.iinfo(values.dtype).max)
        return scaled.permute(2, 0, 1).expand(3, -1, -1)[None].contiguous()

    def filled(self, rgb: torch.Tensor, hole: Mask, weight: NDArray[np.float32] | None = None) -> Picture:
        """The photo with its hole filled, in its own mode and depth; every other pixel and all alpha untouched.

        Args:
            rgb: (1,3,H,W) in [0,1]. Where its size differs from the photo's, the photo was shrunk on
                request: then all of it is taken, and alpha is shrunk to fit.
            hole: (H,W), true where to take pixels from `rgb`.
            weight: (H,W), how much of them to take in the hole, the rest being the photo's; None for all.
        """
        fill = self._own(rgb)
        alpha = self.alpha
        if fill.shape != self.color.shape:
            if alpha is not None:
                kind = "I;16" if self.depth > 8 else "L"  # noqa: PLR2004  bits
                small = Image.fromarray(alpha).convert(kind).resize(fill.shape[1::-1], Image.Resampling.NEAREST)
                alpha = np.asarray(small, dtype=alpha.dtype)
            return replace(self, color=fill, alpha=alpha)
        if weight is not None:
            share = weight[..., None]
            blended = share * fill.astype(np.float32) + (1 - share) * self.color.astype(np.float32)
            fill = np.rint(blended).astype(fill.dtype)
        return replace(self, color=np.where(hole[..., None], fill, self.color))

    def to_pil(self) -> Image.Image:
        """An 8-bit PIL image of mode L, LA, RGB, RGBA or CMYK, with its metadata in `info`."""
        planes = [to_8_bits(self.color)]
        if self.alpha is not None and not self.mode.startswith("CMYK"):
            planes.append(to_8_bits(self.alpha)[..., None])
        pixels = np.concatenate(planes, axis=2)
        kinds = {1: "L", 2: "LA", 3: "RGB", 4: "CMYK" if self.mode == "CMYK" else "RGBA"}
        kind = kinds[pixels.shape[2]]
        image = Image.frombytes(kind, (pixels.shape[1], pixels.shape[0]), np.ascontiguousarray(pixels).tobytes())
        image.info.update(self.metadata)
        return image

    def save(self, path: str | Path, *, quality: int | None = None) -> None:
        """Write a file in the format that its name asks for, metadata included; whole or not at all.

        Args:
            path: the file; one that exists is replaced.
            quality: 1 to 100 for JPEG, WebP, AVIF and HEIF; see `refiner.image_writing.encode` for what holds without.

        Raises:
            InputError: the format is not known or cannot hold the picture, or the file cannot be written.
        """
        from refiner.files import write_atomic  # noqa: PLC0415  what writes knows this module
        from refiner.images.writing import encode  # noqa: PLC0415

        path = Path(path)
        write_atomic({path: encode(self, path, quality=quality)})

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Color and alpha as (H,W) for gray alone, else (H,W,C)."""
        planes = self.color if self.alpha is None else np.concatenate([self.color, self.alpha[..., None]], axis=2)
        array = planes[..., 0] if planes.shape[2] == 1 else planes
        return np.array(array, dtype=dtype, copy=copy)

    def _own(self, rgb: torch.Tensor) -> Values:
        """RGB (1,3,H,W) in [0,1] in this picture's mode and depth, rounded."""
        values: NDArray[np.float32] = rgb[0].detach().clamp(0, 1).permute(1, 2, 0).float().cpu().numpy()
        if self.color.shape[2] == 1:
            values = (values @ np.asarray(_LUMA, dtype=np.float32))[..., None]
        kind = self.color.dtype
        own: Values = np.rint(values * np.iinfo(kind).max).astype(kind)
        if self.mode.startswith("CMYK"):
            return rgb_to_cmyk(own, self.metadata.get("icc_profile"))
        return own


def from_rgb(rgb: torch.Tensor) -> Picture:
    """(1,3,H,W) in [0,1] to an 8-bit picture, rounded."""
    nothing = np.zeros((*rgb.shape[2:], 3), dtype=np.uint8)
    return Picture(nothing).filled(rgb, np.ones(rgb.shape[2:], dtype=bool))


def to_8_bits(values: Values) -> Pixels:
    """8-bit values as they are, 16-bit ones rounded to 8."""
    if values.dtype == np.uint8:
        return values.astype(np.uint8, copy=False)
    return np.rint(values.astype(np.float32) / 257).astype(np.uint8)  # 65535 / 255
