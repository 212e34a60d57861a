"""A decoded photo in memory, in its own mode and depth, with its metadata."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from PIL import Image

from refiner.images.drawing import box_of
from refiner.images.planes import DEEP, cmyk_to_rgb, rgb_to_cmyk, to_8_bits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from refiner.images.pages import Pages
    from refiner.images.planes import Mask, Values

PilImage: TypeAlias = Image.Image

_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow weighs


@dataclass(frozen=True)
class Picture:
    """An upright photo, with all that its result must keep.

    Attributes:
        color: (H,W,1) gray, (H,W,3) RGB or (H,W,4) CMYK, 8 or 16 bits a channel.
        alpha: (H,W) of the same depth, or None.
        name: what messages call it.
        format: the name of its file's format, as in `refiner.images.formats`; None where it came from no file.
        metadata: EXIF data, color profile, resolution and so on, by the names that Pillow's `save` takes.
        turned: the turn that made it upright; None where it was stored upright.
        stored_depth: bits a channel in the file where not all of them could be read; else None.
        scaled_from: bits a channel in the file where they were scaled up to 16, such as 10; else None.
        pages: which page of its file it is; None where that has one page.
    """

    color: Values
    alpha: Values | None = None
    name: str = "image"
    format: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    turned: Image.Transpose | None = None
    stored_depth: int | None = None
    scaled_from: int | None = None
    pages: Pages | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.color.shape[0], self.color.shape[1]

    @property
    def depth(self) -> int:
        """Bits a channel: 8 or 16."""
        return 8 * self.color.itemsize

    @property
    def bits(self) -> int:
        """Bits a channel that the values carry: as `depth`, or fewer where they were scaled up."""
        return self.scaled_from or self.depth

    @property
    def mode(self) -> str:
        """L, RGB or CMYK; with alpha LA, RGBA or CMYKA."""
        return _MODES[self.color.shape[2]] + ("" if self.alpha is None else "A")

    def rgb(self) -> torch.Tensor:
        """The color as a network takes it: (1,3,H,W) in [0,1], float32. Gray is repeated, alpha left out."""
        values = self.color
        if self.mode.startswith("CMYK"):
            values = cmyk_to_rgb(values, self.metadata.get("icc_profile"))
        # A copy where PyTorch could not take the array as it is: read-only, turned, of another byte order.
        plain = np.require(values, values.dtype.newbyteorder("="), ["C", "W"])
        planes = torch.from_numpy(plain).permute(2, 0, 1)
        scaled = torch.empty(1, 3, *planes.shape[1:], dtype=torch.float32, device="cpu")
        return scaled.copy_(planes).div_(np.iinfo(values.dtype).max)

    def filled(self, rgb: torch.Tensor, hole: Mask, weight: NDArray[np.float32] | None = None) -> Picture:
        """Fill the hole of the picture, in its own mode and depth; every other pixel and all alpha stay the same.

        Args:
            rgb: (1,3,H,W) in [0,1]. If it is smaller than the picture, the photo was shrunk: then all of `rgb` is
                taken, and alpha is shrunk to fit.
            hole: (H,W), true where to take pixels from `rgb`.
            weight: (H,W), the share of `rgb` in each pixel of the hole, the rest being the picture's; None for all.
        """
        if rgb.shape[2:] != self.color.shape[:2]:
            fill = self._in_own_mode(rgb)
            return replace(self, color=fill, alpha=self._alpha_of_size(fill.shape[0], fill.shape[1]))
        left, top, right, bottom = box_of(hole) or (0, 0, *hole.shape[::-1])  # the rest stays as it is
        rows, columns = slice(top, bottom), slice(left, right)
        color = self.color.copy()
        own, inside = color[rows, columns], hole[rows, columns, None]
        fill = self._in_own_mode(rgb[:, :, rows, columns])
        if weight is not None:
            share = weight[rows, columns, None]
            blended = share * fill.astype(np.float32) + (1 - share) * own.astype(np.float32)
            fill = np.rint(blended).astype(fill.dtype)
        np.copyto(own, fill, where=inside)
        return replace(self, color=color)

    def to_pil(self) -> PilImage:
        """Make an 8-bit PIL image of mode L, LA, RGB, RGBA or CMYK, with the metadata in `info`."""
        planes = [to_8_bits(self.color)]
        if self.alpha is not None and not self.mode.startswith("CMYK"):
            planes.append(to_8_bits(self.alpha)[..., None])
        pixels = np.concatenate(planes, axis=2)
        mode = {1: "L", 2: "LA", 3: "RGB", 4: "CMYK" if self.mode.startswith("CMYK") else "RGBA"}[pixels.shape[2]]
        image = Image.frombytes(mode, (pixels.shape[1], pixels.shape[0]), np.ascontiguousarray(pixels).tobytes())
        image.info.update(self.metadata)
        return image

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Color and alpha as one array: (H,W) for gray without alpha, else (H,W,C)."""
        planes = self.color if self.alpha is None else np.concatenate([self.color, self.alpha[..., None]], axis=2)
        array = planes[..., 0] if planes.shape[2] == 1 else planes
        # NumPy before 2 knows no `copy=None`, which means where needed.
        return np.asarray(array, dtype) if copy is None else np.array(array, dtype=dtype, copy=copy)

    def _in_own_mode(self, rgb: torch.Tensor) -> Values:
        """RGB (1,3,H,W) in [0,1], converted to this picture's mode and rounded to its depth."""
        values: NDArray[np.float32] = rgb[0].detach().clamp(0, 1).permute(1, 2, 0).float().cpu().numpy()
        if self.color.shape[2] == 1:
            values = (values @ np.asarray(_LUMA, dtype=np.float32))[..., None]
        kind = self.color.dtype
        own: Values = np.rint(values * np.iinfo(kind).max).astype(kind)
        if self.mode.startswith("CMYK"):
            return rgb_to_cmyk(own, self.metadata.get("icc_profile"))
        return own

    def _alpha_of_size(self, height: int, width: int) -> Values | None:
        if self.alpha is None:
            return None
        mode = "I;16" if self.depth == DEEP else "L"
        resized = Image.fromarray(self.alpha).convert(mode).resize((width, height), Image.Resampling.NEAREST)
        return np.asarray(resized, dtype=self.alpha.dtype)


def from_rgb(rgb: torch.Tensor) -> Picture:
    """Make an 8-bit picture of RGB (1,3,H,W) in [0,1], rounded."""
    nothing = np.zeros((*rgb.shape[2:], 3), dtype=np.uint8)
    return Picture(nothing).filled(rgb, np.ones(rgb.shape[2:], dtype=bool))
