"""Snap to object: from a rough scribble to the outline of the object under it, by GrabCut (Rother et al., 2004)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from refiner.errors import InputError
from refiner.images.drawing import box_of
from refiner.images.screen import part_for_screen

if TYPE_CHECKING:
    from refiner.images.picture import Picture
    from refiner.images.planes import Mask

_SIDE = 480  # longer side in pixels that GrabCut works at: its time grows faster than its precision
_MARGIN = 0.6  # how far the object may reach beyond the scribble, as a share of the scribble's longer side
_ROUNDS = 5
_LEAST_MARGIN = 24  # pixels
_HALF = 0.5
_FAR = 0.9  # pixels beyond this share of the largest distance from the scribble are background


def can_snap() -> bool:
    """Whether OpenCV is installed."""
    try:
        import cv2  # noqa: F401, PLC0415  an extra
    except ImportError:
        return False
    return True


def snapped(picture: Picture, scribble: Mask) -> Mask:
    """The mask (H,W) of the object under a scribble; the scribble's middle always belongs to it.

    Args:
        picture: the picture that was drawn on.
        scribble: (H,W), true where something was drawn; it may leave out much of the object and reach beyond it.

    Raises:
        InputError: nothing was drawn, or OpenCV is missing.
    """
    tight = box_of(scribble)
    if tight is None:
        raise InputError("Nothing is marked; scribble over the object first.")
    side = max(tight[2] - tight[0], tight[3] - tight[1])
    box = box_of(scribble, max(int(_MARGIN * side), _LEAST_MARGIN)) or tight
    left, top, right, bottom = box
    outline = _grab_cut(part_for_screen(picture, box), scribble[top:bottom, left:right])
    found = np.zeros_like(scribble)
    found[top:bottom, left:right] = outline
    return found


def _grab_cut(pixels: np.ndarray, scribble: Mask) -> Mask:
    """The mask (h,w) of the object under a scribble (h,w) in pixels (h,w,3)."""
    try:
        import cv2  # noqa: PLC0415  an extra
    except ImportError:
        raise InputError('Snapping needs OpenCV: pip install "refiner-inpainting[formats]".') from None
    height, width = scribble.shape
    share = min(1.0, _SIDE / max(height, width))
    size = max(8, round(width * share)), max(8, round(height * share))
    small = cv2.resize(np.ascontiguousarray(pixels[..., ::-1]), size, interpolation=cv2.INTER_AREA)
    covered = cv2.resize(scribble.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    drawn = (covered >= _HALF).astype(np.uint8)
    if not drawn.any():
        drawn[size[1] // 2, size[0] // 2] = 1
    # The scribble's middle is certainly object, its rim probably; pixels far from the scribble certainly are not.
    inwards = cv2.distanceTransform(drawn, cv2.DIST_L2, 3)
    outwards = cv2.distanceTransform(1 - drawn, cv2.DIST_L2, 3)
    labels = np.full(drawn.shape, cv2.GC_PR_BGD, np.uint8)
    hull = cv2.convexHull(np.argwhere(drawn)[:, ::-1].astype(np.int32))
    inside = np.zeros_like(drawn)
    cv2.fillConvexPoly(inside, hull, 1)
    labels[(inside > 0) & (drawn == 0)] = cv2.GC_PR_FGD
    labels[drawn > 0] = cv2.GC_PR_FGD
    labels[inwards >= _HALF * inwards.max()] = cv2.GC_FGD
    labels[outwards >= _FAR * outwards.max()] = cv2.GC_BGD
    labels[[0, -1], :] = np.where(drawn[[0, -1], :] > 0, labels[[0, -1], :], cv2.GC_BGD)
    labels[:, [0, -1]] = np.where(drawn[:, [0, -1]] > 0, labels[:, [0, -1]], cv2.GC_BGD)
    cv2.setRNGSeed(0)  # the same scribble gives the same outline
    cv2.grabCut(small, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), _ROUNDS, cv2.GC_INIT_WITH_MASK)
    object_ = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    object_ = _connected(cv2, object_, drawn)
    smooth = cv2.GaussianBlur(object_.astype(np.float32), (0, 0), 0.8)
    return np.asarray(cv2.resize(smooth, (width, height), interpolation=cv2.INTER_CUBIC) >= _HALF)


def _connected(cv2: object, found: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The parts of the found object that the scribble touches, with their holes filled."""
    count, parts = cv2.connectedComponents(found)  # type: ignore[attr-defined]
    touched = [number for number in range(1, count) if (drawn[parts == number] > 0).any()]
    kept = np.isin(parts, touched).astype(np.uint8)
    padded = np.pad(1 - kept, 1, constant_values=1)
    _, outside = cv2.connectedComponents(padded, connectivity=4)  # type: ignore[attr-defined]
    return np.asarray(outside[1:-1, 1:-1] != outside[0, 0], dtype=np.uint8)
