"""Options on masks that several commands share."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable


def mask_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options on masks; the command gets them as `options`, a `MaskOptions`."""

    @click.option("--threshold", type=int, default=0, show_default=True, metavar="N", help="Above it is hole.")
    @click.option("--invert", is_flag=True, help="Black marks what to remove.")
    @click.option("--dilate", type=int, default=0, metavar="N", help="Grow the hole by N pixels on all sides.")
    @click.option("--feather", type=int, default=0, metavar="N", help="Blend over N pixels inside the hole's rim.")
    @click.option("--resize-mask", is_flag=True, help="Scale a mask of another size but the same aspect.")
    @click.option("--mask-from-alpha", is_flag=True, help="Fill what is transparent in the photo; no MASK then.")
    @wraps(command)
    def with_options(
        *args: Any,
        threshold: int,
        invert: bool,
        dilate: int,
        feather: int,
        resize_mask: bool,
        mask_from_alpha: bool,
        **kwargs: Any,
    ) -> Any:
        from refiner.images.masks import MaskOptions  # noqa: PLC0415  so that help comes at once

        options = MaskOptions(threshold, invert, dilate, feather, resize_mask, mask_from_alpha)
        return command(*args, options=options, **kwargs)

    return with_options
