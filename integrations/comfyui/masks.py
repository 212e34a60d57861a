"""The tensors IMAGE and MASK as ComfyUI's nodes pass them, checked against each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import refiner

if TYPE_CHECKING:
    from torch import Tensor

_IMAGE_DIMS = 4  # B, H, W, C
ABSENT = (64, 64)  # shape of the zeros that stand for no mask


def checked(image: Tensor) -> None:
    """Refuse a tensor that is no IMAGE.

    Raises:
        InputError: the tensor is not (B,H,W,3) or (B,H,W,4).
    """
    if image.ndim != _IMAGE_DIMS or image.shape[3] not in (3, 4) or 0 in image.shape:
        raise refiner.InputError(f"image: expected (B,H,W,3) or (B,H,W,4), got {tuple(image.shape)}.")


def masks_of(mask: Tensor, image: Tensor) -> list[Tensor]:
    """The masks (H,W) of a batch, one for each picture.

    Args:
        mask: (H,W), (B,H,W) or (B,1,H,W). One serves all pictures. 64x64 zeros stand for no mask, as in ComfyUI.
        image: (B,H,W,C).

    Raises:
        InputError: sizes or counts differ.
    """
    height, width = image.shape[1:3]
    parts = mask.reshape(-1, *mask.shape[-2:])
    if tuple(mask.shape[-2:]) == ABSENT and not mask.any():
        return [mask.new_zeros(height, width)] * len(image)
    if tuple(mask.shape[-2:]) != (height, width):
        raise refiner.InputError(
            f"mask: is {mask.shape[-1]}x{mask.shape[-2]}, the image {size_in_words(image)}; expected a mask of the "
            "image's size."
        )
    if len(parts) == 1:
        return [parts[0]] * len(image)
    if len(parts) != len(image):
        raise refiner.InputError(
            f"mask: there are {len(parts)} for {len(image)} images; expected one, or one for each. MaskComposite adds "
            "masks up."
        )
    return list(parts)


def size_in_words(image: Tensor) -> str:
    """Width and height of an IMAGE."""
    return f"{image.shape[2]}x{image.shape[1]}"
