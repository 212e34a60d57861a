"""Image and hole on their way down.

Steps 2 to 4 of the method (arXiv 2206.13644 and the authors' implementation). A hole is a bool tensor
(N,1,H,W), true where pixels are to be filled. Masks are computed in float64 whatever the picture's dtype, on the CPU
where the device has none: in float32, rounding in the resize decides which pixels of a solid hole count.
"""

# Autograd functions are called through an untyped `apply`.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from refiner.blur import gaussian_blur

if TYPE_CHECKING:
    from collections.abc import Callable

_REACH = 6  # pixels that a halved pixel is made of: 2, and 2 to each side by the blur
_THRESHOLD = 1e-8  # below it a resized mask value is rounding, not hole


def scale_count(height: int, width: int, min_side: int, max_scales: int | None) -> int:
    """Number of scales: one, and one more for each doubling of the short side over `min_side`, rounded."""
    count = 1 + round(max(0.0, math.log2(min(height, width) / min_side)))
    return count if max_scales is None else min(count, max_scales)


def size_within(size: tuple[int, int], pixels: int) -> tuple[int, int]:
    """Height and width shrunk to at most so many pixels; as they are where they have no more."""
    height, width = size
    ratio = math.sqrt(pixels / (height * width))
    return (height, width) if ratio >= 1 else (int(height * ratio), int(width * ratio))


def shrink_to_budget(image: Tensor, hole: Tensor, pixels: int) -> tuple[Tensor, Tensor]:
    """Shrink a picture of more than `pixels` pixels to that many; the hole takes in all it touches."""
    size = size_within((image.shape[-2], image.shape[-1]), pixels)
    if size == image.shape[-2:]:
        return image, hole
    return _resize(image, size), _in_float64(hole, lambda mask: _resize(mask, size) > _THRESHOLD)


def build_pyramid(image: Tensor, hole: Tensor, scales: int) -> list[tuple[Tensor, Tensor]]:
    """Halve image and hole until there are `scales` of them.

    Args:
        image: (N,3,H,W).
        hole: (N,1,H,W), bool.
        scales: how many levels, the full size included.

    Returns:
        (image, hole) for each scale, the smallest first.
    """
    levels = [(image, hole)]
    for _ in range(scales - 1):
        image, hole = halve_image(image), halve_hole(hole)
        levels.append((image, hole))
    return levels[::-1]


def halve_image(image: Tensor) -> Tensor:
    """Gaussian 5x5 of sigma 1, then bilinear to half the size, rounded down. Differentiable."""
    if _is_even(image):  # then each is the same six pixels wide sum along either axis
        rows: Tensor = _HalvedSums.apply(functional.pad(image, (0, 0, 2, 2), mode="reflect"), -2)
        both: Tensor = _HalvedSums.apply(functional.pad(rows, (2, 2, 0, 0), mode="reflect"), -1)
        return both
    return _resize(_blur(image), _half(image))


def halve_hole(hole: Tensor) -> Tensor:
    """Halve as the image is halved; any pixel the hole reaches becomes hole, so that it grows going down."""
    if _is_even(hole):  # then a pixel reaches from two before its pair to two after it, and nothing has to be blurred
        for axis, beyond in ((-2, (0, 0, 2, 2)), (-1, (2, 2, 0, 0))):
            padded = functional.pad(hole, beyond)
            hole = _every_second(padded, axis, 0) | _every_second(padded, axis, 1)
            for at in range(2, _REACH):
                hole |= _every_second(padded, axis, at)
        return hole
    return _in_float64(hole, lambda mask: _resize(_blur(mask), _half(mask)) >= _THRESHOLD)


def halve_hole_inward(hole: Tensor) -> Tensor:
    """Halve without blur; only pixels that lie wholly in the hole stay, so that it shrinks going down."""
    if _is_even(hole):
        return functional.max_pool2d((~hole).float(), 2) == 0
    return _in_float64(hole, lambda mask: _resize(mask, _half(mask)) >= 1 - _THRESHOLD)


def _is_even(x: Tensor) -> bool:
    return not (x.shape[-2] % 2 or x.shape[-1] % 2) and min(x.shape[-2:]) > _REACH


class _HalvedSums(Function):
    """Blur and halving along one axis, of what was padded by two on either side: weighted sums of six, two apart.

    A CPU's convolutions lay three channels out as sixteen, and a way back through them takes ten times as long.
    """

    @staticmethod
    def forward(ctx: Any, padded: Tensor, axis: int) -> Tensor:
        ctx.axis, ctx.size = axis, padded.shape
        first, *others = ((weight, _every_second(padded, axis, at)) for at, weight in enumerate(_halving_weights()))
        out = first[1] * first[0]
        for weight, pixels in others:
            out.add_(pixels, alpha=weight)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        back = grad.new_zeros(ctx.size)
        for at, weight in enumerate(_halving_weights()):
            _every_second(back, ctx.axis, at).add_(grad, alpha=weight)
        return back, None


def _every_second(padded: Tensor, axis: int, at: int) -> Tensor:
    """Every second pixel along an axis from `at` on, as many as there are halved pixels; a view."""
    length = padded.shape[axis] - (_REACH - 2)
    return padded.narrow(axis, at, length - 1).unfold(axis, 1, 2).squeeze(-1)


@cache
def _halving_weights() -> tuple[float, ...]:
    """What a halved pixel is made of along an axis: the mean of two neighbors, each blurred over five; (6,)."""
    weights = [math.exp(-(x**2) / 2) for x in range(-2, 3)]
    blur = [weight / sum(weights) for weight in weights]
    return tuple((a + b) / 2 for a, b in zip([*blur, 0.0], [0.0, *blur], strict=True))


def exactly_half(halved: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample what was halved from `size` so that each of its pixels covers exactly 2 x 2 of the larger picture.

    Halving rounds an odd side down, and stretches the rest a little to fit; towards the far edge that grows to half a
    pixel. An even side is left as it is.

    Args:
        halved: (N,C,H//2,W//2).
        size: H, W.

    Returns:
        (N,C,ceil(H/2),ceil(W/2)).
    """
    if not (size[0] % 2 or size[1] % 2):
        return halved
    for axis, side in ((-2, size[0]), (-1, size[1])):
        if side % 2:
            halved = _resampled(halved, axis, side)
    return halved


def _resampled(halved: Tensor, axis: int, side: int) -> Tensor:
    """Along one axis, linearly, to pixels that cover exactly two of `side` each."""
    have = halved.shape[axis]
    # In float64: these are places, whatever the picture's precision.
    centers = torch.arange(-(-side // 2), dtype=torch.float64, device="cpu") * 2 + 1
    places = (centers * (have / side) - 0.5).clamp(0, have - 1)
    before = places.floor().long()
    share = (places - before).to(halved).reshape(-1, *(1,) * (-1 - axis))
    before = before.to(halved.device)
    after = (before + 1).clamp(max=have - 1)
    return torch.lerp(halved.index_select(axis, before), halved.index_select(axis, after), share)


def enlarge(x: Tensor, size: tuple[int, int]) -> Tensor:
    """A picture (N,C,h,w) bilinearly enlarged to a height and width."""
    return _resize(x, size)


def _half(x: Tensor) -> tuple[int, int]:
    return x.shape[-2] // 2, x.shape[-1] // 2


def _blur(x: Tensor) -> Tensor:
    return gaussian_blur(x, 5, 1.0, "reflect")


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _in_float64(hole: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    return change(hole.to(_device_with_float64(hole.device)).double()).to(hole.device)


def _device_with_float64(device: torch.device) -> torch.device:
    """The device itself, or the CPU; `meta` is for shapes alone, where the work is only estimated."""
    return device if device.type in ("cpu", "cuda", "meta") else torch.device("cpu")
