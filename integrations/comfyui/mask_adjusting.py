"""Adjust Mask: threshold, invert, resize, grow and blur, in this order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

import refiner
from refiner.engine.refine import has_aspect

from .masks import ABSENT, checked, size_in_words
from .node import Done, Input, Node, Output

if TYPE_CHECKING:
    from torch import Tensor


def adjust_mask(
    mask: Tensor, threshold: float, invert: bool, grow: int, blur: int, image: Tensor | None = None
) -> Done:
    """Make a mask fit for Refine Inpaint or any other node.

    Args:
        mask: (B,H,W), (B,1,H,W) or (H,W) in [0,1].
        threshold: values above it become 1, all others 0.
        invert: black is hole instead.
        grow: pixels by which the hole grows, in a circle around each of its pixels; below 0 it shrinks.
        blur: pixels outside the hole over which it fades out.
        image: (B,H,W,C), to whose size the mask is scaled.

    Returns:
        The mask (B,H,W).

    Raises:
        InputError: the aspect is not the image's.
    """
    parts = mask.reshape(-1, *mask.shape[-2:])
    absent = tuple(parts.shape[-2:]) == ABSENT and not parts.any()
    if image is not None:
        checked(image)
    if absent and image is not None:
        parts = parts.new_zeros(len(parts), *image.shape[1:3])
    hole = parts > threshold
    if invert:
        hole = ~hole
    if image is not None and tuple(hole.shape[1:]) != tuple(image.shape[1:3]):
        hole = _resized(hole, image)
    return Done((torch.stack([_softened(_grown(part.cpu().numpy(), grow), blur) for part in hole]),))


def _resized(hole: Tensor, image: Tensor) -> Tensor:
    height, width = image.shape[1:3]
    if not has_aspect((hole.shape[1], hole.shape[2]), (height, width)):
        raise refiner.InputError(
            f"mask: is {hole.shape[2]}x{hole.shape[1]}, which is not the aspect of the image, {size_in_words(image)}; "
            "expected a mask of the whole image, at any size."
        )
    return functional.interpolate(hole[:, None].float(), (height, width), mode="bilinear", antialias=True)[:, 0] >= 0.5  # noqa: PLR2004


def _grown(hole: np.ndarray, distance: int) -> np.ndarray:
    if not distance or not hole.any() or hole.all():
        return hole
    if distance > 0:
        return np.asarray(ndimage.distance_transform_edt(~hole) <= distance)
    return np.asarray(ndimage.distance_transform_edt(hole) > -distance)


def _softened(hole: np.ndarray, width: int) -> Tensor:
    """1 in the hole, falling to 0 over `width` pixels outside it."""
    if not width or not hole.any():
        return torch.from_numpy(hole).float()
    beyond = ndimage.distance_transform_edt(~hole)
    return torch.from_numpy(np.clip(1 - beyond / (width + 1), 0, 1).astype(np.float32))


ADJUST_MASK = Node(
    id="RefinerAdjustMask",
    name="Adjust Mask",
    description="Threshold, invert, resize, grow and blur, in this order.",
    run=adjust_mask,
    inputs=(
        Input("mask", "MASK", "The mask."),
        Input(
            "threshold",
            "FLOAT",
            "What is brighter becomes white, all else black.",
            {"default": 0.0, "min": 0.0, "max": 0.99, "step": 0.01},
        ),
        Input("invert", "BOOLEAN", "Black is what to remove instead.", {"default": False}),
        Input("grow", "INT", "Pixels it grows by; below 0 it shrinks.", {"default": 0, "min": -1024, "max": 1024}),
        Input(
            "blur",
            "INT",
            "Pixels outside over which it fades out; for Refine Inpaint, with `blend_mask`.",
            {"default": 0, "min": 0, "max": 1024},
        ),
        Input("image", "IMAGE", "To whose size the mask is scaled.", optional=True),
    ),
    outputs=(Output("MASK", "MASK", "The mask."),),
)
