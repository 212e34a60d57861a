"""Refine Inpaint: removes what a mask covers, at the picture's full size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .masks import checked, guides_of, masks_of
from .node import Done, Input, Node
from .work import FURTHER, INPAINTER_INPUT, OUTPUTS, WIDGETS, Hints, fill, hole_of, settings_of

if TYPE_CHECKING:
    from torch import Tensor

    import refiner


def refine_inpaint(
    image: Tensor,
    mask: Tensor,
    preset: str,
    steps: int,
    grow: int,
    feather: int,
    memory: str,
    inpainter: refiner.Inpainter | None = None,
    guide: Tensor | None = None,
    avoid: Tensor | None = None,
    settings: str = "",
    blend_mask: bool = False,
    **widgets: Any,
) -> Done:
    """Remove what the mask covers and refine the fill at full size.

    Args:
        image: (B,H,W,3) or (B,H,W,4), floating point in [0,1]. Values outside that are kept where nothing is filled.
        mask: (B,H,W), or one for all; every value above 0 is hole. 64x64 zeros stand for none.
        preset: a preset's name.
        steps: predictions at each refined scale; 0 for what the preset says.
        grow: pixels the hole grows by.
        feather: pixels from the hole's rim inwards over which the fill blends into the picture.
        memory: most to take, such as `6GB`; empty for most of what is free.
        inpainter: fills the smallest scale, and is refined at the others; None for the best one on this machine.
        guide: (B,h,w,C), or one for all: a fill made by any other nodes, of any size and the image's aspect.
        avoid: (B,H,W), or one for all; above 0 where nothing may be copied from into the hole.
        settings: further settings, as the lines of a preset.
        blend_mask: blend by the mask's values, in place of filling in full all that is not 0.
        **widgets: `detail`, `match_color` and `seed`, see `settings_of`.

    Returns:
        The image with its holes filled, all else equal bit for bit; the fill's mask (B,H,W); what was done, in words.

    Raises:
        RefinerError: the input, the settings or the model cannot be used.
    """
    checked(image)
    chosen = settings_of(preset, steps, memory, settings, **widgets)
    holes = [hole_of(part, grow, feather, blend=blend_mask) for part in masks_of(mask, image)]
    hints = Hints(
        None if guide is None else guides_of(guide, image),
        None if avoid is None else [part > 0 for part in masks_of(avoid, image, "avoid")],
    )
    return fill(image, holes, inpainter, chosen, hints).done()


REFINE_INPAINT = Node(
    id="RefinerRefineInpaint",
    name="Refine Inpaint",
    description="Removes what the mask covers, at the picture's full size; no pixel outside the mask changes.",
    run=refine_inpaint,
    inputs=(
        Input("image", "IMAGE", "The picture, or several."),
        Input("mask", "MASK", "White is what to remove; one for all pictures, or one for each."),
        INPAINTER_INPUT,
        Input(
            "guide",
            "IMAGE",
            "A fill of the whole picture by any other nodes, small or large: it is brought to the full size.",
            optional=True,
        ),
        Input("avoid", "MASK", "White is what must not be copied into the hole.", optional=True),
        *WIDGETS,
        *FURTHER,
    ),
    outputs=OUTPUTS,
)
