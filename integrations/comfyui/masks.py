"""The tensors IMAGE and MASK as ComfyUI's nodes pass them, checked against each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import refiner

if TYPE_CHECKING:
    from torch import Tensor

_IMAGE_DIMS = 4  # B, H, W, C
ABSENT = (64, 64)  # shape of the zeros that stand for no mask


def checked(image: Tensor, name: str = "image") -> None:
    """Refuse a tensor that is no IMAGE.

    Args:
        image: the tensor.
        name: what messages call it.

    Raises:
        InputError: the tensor is not (B,H,W,3) or (B,H,W,4).
    """
    if image.ndim != _IMAGE_DIMS or image.shape[3] not in (3, 4) or 0 in image.shape:
        raise refiner.InputError(f"{name}: expected (B,H,W,3) or (B,H,W,4), got {tuple(image.shape)}.")


def masks_of(mask: Tensor, image: Tensor, name: str = "mask") -> list[Tensor]:
    """The masks (H,W) of a batch, one for each picture.

    Args:
        mask: (H,W), (B,H,W) or (B,1,H,W). One serves all pictures. 64x64 zeros stand for no mask, as in ComfyUI.
        image: (B,H,W,C).
        name: what messages call it.

    Raises:
        InputError: sizes or counts differ.
    """
    height, width = image.shape[1:3]
    parts = mask.reshape(-1, *mask.shape[-2:])
    if tuple(mask.shape[-2:]) == ABSENT and not mask.any():
        return [mask.new_zeros(height, width)] * len(image)
    if tuple(mask.shape[-2:]) != (height, width):
        raise refiner.InputError(
            f"{name}: is {mask.shape[-1]}x{mask.shape[-2]}, the image {size_in_words(image)}; expected a mask of the "
            "image's size. Adjust Mask scales one."
        )
    if len(parts) == 1:
        return [parts[0]] * len(image)
    if len(parts) != len(image):
        raise refiner.InputError(
            f"{name}: there are {len(parts)} for {len(image)} images; expected one, or one for each. MaskComposite "
            "adds masks up."
        )
    return list(parts)


def guides_of(guide: Tensor, image: Tensor) -> list[Tensor]:
    """Fills made elsewhere, (1,3,h,w) for each picture of a batch.

    Args:
        guide: (B,h,w,3) or (B,h,w,4); one serves all pictures.
        image: (B,H,W,C).

    Raises:
        InputError: it is no IMAGE, or counts differ.
    """
    checked(guide, "guide")
    parts = guide[..., :3].movedim(-1, 1)
    if len(parts) not in (1, len(image)):
        raise refiner.InputError(
            f"guide: there are {len(parts)} for {len(image)} images; expected one, or one for each."
        )
    return [parts[number % len(parts)][None] for number in range(len(image))]


def size_in_words(image: Tensor) -> str:
    """Width and height of an IMAGE."""
    return f"{image.shape[2]}x{image.shape[1]}"
