"""Cut Around Hole and Stitch Refined: a diffusion model works on a small cut, and its fill comes to the full size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

import refiner
from refiner.engine.refine import has_aspect

from .masks import checked, masks_of, size_in_words
from .node import CUT, Done, Input, Node, Output
from .work import FURTHER, INPAINTER_INPUT, OUTPUTS, WIDGETS_WITHOUT_GROW, Hints, fill, hole_of, settings_of

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Window:
    """A part of a picture, in pixels."""

    left: int
    top: int
    width: int
    height: int

    def of(self, values: Tensor) -> Tensor:
        """The part of (...,H,W)."""
        return values[..., self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True)
class Cut:
    """Where pictures were cut, for Stitch Refined.

    Attributes:
        image: the whole pictures (B,H,W,C).
        masks: what to remove from each (H,W).
        windows: what was cut out of each.
    """

    image: Tensor
    masks: list[Tensor]
    windows: list[Window]


def cut_around_hole(image: Tensor, mask: Tensor, width: int, height: int, context: float) -> Done:
    """Cut out the surroundings of the hole of each picture, scaled to one size.

    Args:
        image: (B,H,W,3) or (B,H,W,4).
        mask: (B,H,W), or one for all; every value above 0 is hole.
        width: of the cut, in pixels.
        height: of the cut, in pixels.
        context: how many times the hole's sides the cut has at least, as far as the picture goes.

    Returns:
        What Stitch Refined needs; the cuts (B,height,width,3); their holes (B,height,width), 0 or 1.

    Raises:
        InputError: the inputs do not fit, or no part of the picture of this aspect holds the hole.
    """
    checked(image)
    masks = masks_of(mask, image)
    windows = [window_around(part > 0, width, height, context) for part in masks]
    pictures, holes = [], []
    for picture, part, window in zip(image, masks, windows, strict=True):
        rgb = window.of(picture[..., :3].movedim(-1, 0))[None].float()
        pictures.append(scaled(rgb, height, width)[0].movedim(0, -1))
        hole = window.of(part > 0)[None, None].float()
        # A pixel of the cut is hole where any of its pixels are.
        holes.append((functional.interpolate(hole, (height, width), mode="bilinear", antialias=True) > 0).float()[0, 0])
    return Done((Cut(image, masks, windows), torch.stack(pictures), torch.stack(holes)))


def stitch_refined(
    cut: Cut,
    image: Tensor,
    preset: str,
    steps: int,
    feather: int,
    memory: str,
    inpainter: refiner.Inpainter | None = None,
    avoid: Tensor | None = None,
    settings: str = "",
    blend_mask: bool = False,
    **widgets: Any,
) -> Done:
    """Bring what other nodes made of the cuts back into the whole pictures, at their full size.

    Args:
        cut: from Cut Around Hole.
        image: (B,h,w,C), the cuts with their holes filled, of any size and the cuts' aspect. Several for one cut give
            as many pictures.
        preset: see `refine_inpaint`, as all that follow.
        steps: ..
        feather: ..
        memory: ..
        inpainter: ..
        avoid: ..
        settings: ..
        blend_mask: ..
        **widgets: ..

    Returns:
        The whole pictures, equal bit for bit outside their holes; the fill's mask; what was done, in words.

    Raises:
        RefinerError: the input, the settings or the model cannot be used.
    """
    checked(image)
    chosen = settings_of(preset, steps, memory, settings, **widgets)
    count = len(image)
    if len(cut.windows) not in (1, count):
        raise refiner.InputError(
            f"image: there are {count} for {len(cut.windows)} cuts; expected one for each, or several for one."
        )
    window = cut.windows[0]
    if not has_aspect((image.shape[1], image.shape[2]), (window.height, window.width)):
        raise refiner.InputError(
            f"image: is {size_in_words(image)}, which is not the aspect of the cut, {window.width}x{window.height} in "
            "the picture; leave out what crops or pads between the two nodes."
        )
    times = count // len(cut.windows)
    whole = cut.image if times == 1 else cut.image.expand(count, -1, -1, -1)
    guides = [
        whole_guide(picture[..., :3].movedim(-1, 0)[None].float(), part, made[..., :3].movedim(-1, 0)[None].float())
        for picture, part, made in zip(whole, cut.windows * times, image, strict=True)
    ]
    avoided = None if avoid is None else [part > 0 for part in masks_of(avoid, whole, "avoid")]
    holes = [hole_of(part, 0, feather, blend=blend_mask) for part in cut.masks * times]
    return fill(whole, holes, inpainter, chosen, Hints(guides, avoided)).done()


def window_around(hole: Tensor, width: int, height: int, context: float) -> Window:
    """The part of a picture around its hole (H,W), bool, of an aspect, and not smaller than that size where it can be.

    Raises:
        InputError: the picture has no such part that holds the hole.
    """
    rows, columns = (hole.any(dim=dim).nonzero().flatten().tolist() for dim in (1, 0))
    full_height, full_width = hole.shape
    top, bottom = (rows[0], rows[-1] + 1) if rows else (full_height // 2, full_height // 2)
    left, right = (columns[0], columns[-1] + 1) if columns else (full_width // 2, full_width // 2)
    most = min(full_width / width, full_height / height)
    least = max((right - left) / width, (bottom - top) / height)
    if least > most:
        raise refiner.InputError(
            f"mask: its hole is {right - left}x{bottom - top}, and no {width}x{height} cut of the {full_width}x"
            f"{full_height} picture holds it; choose width and height nearer to the picture's aspect."
        )
    scale = min(max(least * context, 1.0), most)
    size = min(round(scale * width), full_width), min(round(scale * height), full_height)
    # In the middle of the hole, as far as the picture goes.
    start = (
        min(max((low + high - side) // 2, 0), full - side)
        for low, high, side, full in ((left, right, size[0], full_width), (top, bottom, size[1], full_height))
    )
    return Window(next(start), next(start), *size)


def whole_guide(picture: Tensor, window: Window, made: Tensor) -> Tensor:
    """A guide for the whole picture (1,3,H,W): it with the fill of a window in it, at the fill's own scale.

    Args:
        picture: the whole picture.
        window: the part of it that was cut out.
        made: that part with its hole filled, (1,3,h,w).
    """
    full_height, full_width = picture.shape[2:]
    height = round(full_height * made.shape[2] / window.height)
    width = round(full_width * made.shape[3] / window.width)
    guide = scaled(picture, height, width)
    # Where the middle of each pixel of the guide lies in the window, from -1 to 1.
    y = ((torch.arange(height) + 0.5) * full_height / height - window.top) * 2 / window.height - 1
    x = ((torch.arange(width) + 0.5) * full_width / width - window.left) * 2 / window.width - 1
    inside_y, inside_x = (values.abs() < 1 for values in (y, x))
    if not inside_y.any() or not inside_x.any():
        return guide
    grid = torch.stack(torch.meshgrid(x[inside_x], y[inside_y], indexing="xy"), dim=-1)[None].to(picture)
    part = functional.grid_sample(made.to(picture), grid, mode="bicubic", padding_mode="border", align_corners=False)
    rows, columns = inside_y.nonzero().flatten(), inside_x.nonzero().flatten()
    guide[..., rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = part.clamp(0, 1)
    return guide


def scaled(picture: Tensor, height: int, width: int) -> Tensor:
    """A picture (1,3,H,W) in another size, in [0,1]."""
    if tuple(picture.shape[2:]) == (height, width):
        return picture.clamp(0, 1)
    return functional.interpolate(picture, (height, width), mode="bicubic", antialias=True).clamp(0, 1)


CUT_AROUND_HOLE = Node(
    id="RefinerCutAroundHole",
    name="Cut Around Hole",
    description="The hole's surroundings at the size that a diffusion model works at, for Stitch Refined.",
    run=cut_around_hole,
    inputs=(
        Input("image", "IMAGE", "The picture, or several."),
        Input("mask", "MASK", "White is what to remove; one for all pictures, or one for each."),
        Input("width", "INT", "Of the cut.", {"default": 1024, "min": 64, "max": 8192, "step": 8}),
        Input("height", "INT", "Of the cut.", {"default": 1024, "min": 64, "max": 8192, "step": 8}),
        Input(
            "context",
            "FLOAT",
            "So many times the hole's sides the cut has at least.",
            {"default": 2.0, "min": 1.0, "max": 16.0, "step": 0.1},
        ),
    ),
    outputs=(
        Output("cut", CUT, "What Stitch Refined needs."),
        Output("IMAGE", "IMAGE", "The cut, for the model."),
        Output("MASK", "MASK", "Its hole, for the model."),
    ),
)

STITCH_REFINED = Node(
    id="RefinerStitchRefined",
    name="Stitch Refined",
    description="Brings a fill of the cut back into the picture at full size, with the picture's own detail.",
    run=stitch_refined,
    inputs=(
        Input("cut", CUT, "From Cut Around Hole."),
        Input("image", "IMAGE", "The cut with its hole filled, at any size; several for one cut give several."),
        INPAINTER_INPUT,
        Input("avoid", "MASK", "White is what must not be copied into the hole; of the whole picture.", optional=True),
        *WIDGETS_WITHOUT_GROW,
        *FURTHER,
    ),
    outputs=OUTPUTS,
)
