"""Refine Inpaint: removes what a mask covers, at the picture's full size."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import yaml

import refiner
from refiner.cli.console import what_was_done
from refiner.images.masks import read_mask

from . import host
from .masks import checked, masks_of
from .node import INPAINTER, Done, Input, Node, Output

if TYPE_CHECKING:
    from torch import Tensor

    from refiner.images.masks import Hole

_NO_LIMIT = "1000000GB"
_ROOM = 1.3  # so many times the memory of the work must be free, since the engine plans with 80 % of what is free
_NOTHING = "Nothing was removed: the mask is empty."


def refine_inpaint(
    image: Tensor,
    mask: Tensor,
    inpainter: refiner.Inpainter,
    preset: str,
    steps: int,
    grow: int,
    feather: int,
    memory: str,
    settings: str = "",
) -> Done:
    """Remove what the mask covers and refine the fill at full size.

    Args:
        image: (B,H,W,3) or (B,H,W,4), floating point in [0,1]. Values outside that are kept where nothing is filled.
        mask: (B,H,W), or one for all; every value above 0 is hole. 64x64 zeros stand for none.
        inpainter: fills the smallest scale, and is refined at the others.
        preset: a preset's name.
        steps: predictions at each refined scale; 0 for what the preset says.
        grow: pixels the hole grows by.
        feather: pixels from the hole's rim inwards over which the fill blends into the picture.
        memory: most to take, such as `6GB`; empty for most of what is free.
        settings: further settings, as the lines of a preset.

    Returns:
        The image with its holes filled, all else equal bit for bit; the fill's mask (B,H,W); what was done, in words.

    Raises:
        RefinerError: the input, the settings or the model cannot be used.
    """
    checked(image)
    chosen = settings_of(preset, steps, memory, settings)
    _keeps_size(image, chosen)
    holes = [_hole(part, grow, feather) for part in masks_of(mask, image)]
    work = _Work(inpainter, chosen, host.ProgressBar(len(image)))
    with torch.inference_mode(mode=False), torch.no_grad():
        filled = work.on(image.clone(), holes)
    host.say(filled.lines)
    return Done((filled.image, filled.mask, "\n".join(filled.lines)))


def settings_of(preset: str, steps: int, memory: str, more: str) -> refiner.Settings:
    """A preset with the values of the widgets in it.

    Args:
        preset: its name.
        steps: predictions at each refined scale; 0 for what the preset says.
        memory: most to take; empty for what the preset says.
        more: further settings, as the lines of a preset; they replace all others.

    Raises:
        SettingsError: a line is not valid.
    """
    given: dict[str, object] = {"steps": steps} if steps else {}
    if memory.strip():
        given["memory"] = memory.strip()
    if more.strip():
        given |= _lines(more)
    return replace(refiner.load_preset(preset), **given)  # type: ignore[arg-type]


def _lines(more: str) -> dict[str, object]:
    """Settings by name from the lines of a preset, read as a preset's file is."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "settings.yaml"
        path.write_text(more, encoding="utf-8")
        try:
            read = refiner.load_preset(str(path))
        except refiner.SettingsError as error:
            raise refiner.SettingsError(str(error).replace(str(path), "settings")) from None
    return {name: getattr(read, name) for name in yaml.safe_load(more) or {}}


def _keeps_size(image: Tensor, settings: refiner.Settings) -> None:
    """Refuse settings that would shrink the picture: scaling is another node's work.

    Raises:
        InputError: the picture is above the settings' pixel budget.
    """
    height, width = image.shape[1:3]
    budget = settings.pixel_budget
    if settings.refine and budget is not None and height * width > budget:
        raise refiner.InputError(
            f"image: is {width}x{height}, which these settings' pixel_budget of {budget} would shrink; take the preset "
            "`default`, or scale image and mask first with nodes of their own."
        )


def _hole(mask: Tensor, grow: int, feather: int) -> Hole:
    """The hole of one picture, from its mask (H,W)."""
    drawn = (mask > 0).cpu().numpy()
    of_its_size = refiner.Picture(np.zeros((*drawn.shape, 1), np.uint8))
    return read_mask(drawn, of_its_size, refiner.MaskOptions(dilate=grow, feather=feather))


@dataclass
class _Filled:
    """A batch with its holes filled.

    Attributes:
        image: (B,H,W,C).
        mask: (B,H,W), the share of the fill in each pixel.
        lines: what was done, in words.
    """

    image: Tensor
    mask: Tensor
    lines: list[str]


@dataclass(frozen=True)
class _Work:
    """Fills the pictures of a batch."""

    network: refiner.Inpainter
    settings: refiner.Settings
    bar: host.ProgressBar

    def on(self, image: Tensor, holes: list[Hole]) -> _Filled:
        """Fill the holes of (B,H,W,C), one picture after the other."""
        lines = [str(hole.warning) for hole in holes if hole.warning is not None]
        if not any(hole.mask.any() for hole in holes):
            return _Filled(image, image.new_zeros(image.shape[:3], dtype=torch.float32), [*lines, _NOTHING])
        pictures: list[Tensor] = []
        masks: list[Tensor] = []
        first = next(number for number, hole in enumerate(holes) if hole.mask.any())
        with host.placed(self.network) as device:
            for number, (picture, hole) in enumerate(zip(image, holes, strict=True)):
                # Room is made once for all pictures of the batch.
                done, weight, line = self._one(picture, hole, device, make_room=number == first)
                pictures.append(done)
                masks.append(weight)
                lines.append(line)
                self.bar.picture_done()
        return _Filled(torch.stack(pictures), torch.stack(masks), lines)

    def _one(self, picture: Tensor, hole: Hole, device: torch.device, *, make_room: bool) -> tuple[Tensor, Tensor, str]:
        """One picture (H,W,C) filled, the share of the fill (H,W), and what was done."""
        rgb = picture[..., :3].movedim(-1, 0)[None].to(device, torch.float32).clamp(0, 1)
        mask = torch.from_numpy(hole.mask)[None, None].to(device)
        if make_room:
            host.make_room(round(_ROOM * self._need(hole.mask, device)))
        bar = self.bar
        result = refiner.refine(self.network, rgb, mask, self.settings, bar.on_step, bar.on_plan, on_scale=bar.on_scale)
        fill = result.image[0].movedim(0, -1).to(picture.device)
        inside = torch.from_numpy(hole.mask).to(picture.device)
        weight = inside.float() if hole.weight is None else torch.from_numpy(hole.weight).to(picture.device)
        known = picture[..., :3].float()
        blended = torch.lerp(known, fill, weight[..., None]).to(picture.dtype)
        done = picture.clone()
        done[..., :3] = torch.where(inside[..., None], blended, picture[..., :3])
        line = _NOTHING
        if result.scales:
            line = f"{what_was_done(result, self.settings, self.network.spec.train_size)}."
        return done, weight.cpu(), line

    def _need(self, hole: np.ndarray, device: torch.device) -> int:
        """Bytes that the work takes where it may take all that is allowed; 0 where that is not known."""
        settings = self.settings if self.settings.memory else replace(self.settings, memory=_NO_LIMIT)
        boxes = refiner.HoleBoxes.of(hole)
        return refiner.make_plan(boxes, self.network, settings, device=device).bytes or 0


REFINE_INPAINT = Node(
    id="RefinerRefineInpaint",
    name="Refine Inpaint",
    description="Removes what the mask covers, at the picture's full size; no pixel outside the mask changes.",
    run=refine_inpaint,
    inputs=(
        Input("image", "IMAGE", "The picture, or several."),
        Input("mask", "MASK", "White is what to remove; one for all pictures, or one for each."),
        Input("inpainter", INPAINTER, "From Load Inpainter."),
        Input("preset", "COMBO", "Settings by name.", {"default": "default"}, choices=refiner.preset_names),
        Input(
            "steps",
            "INT",
            "Predictions at each refined scale; 0 for what the preset says.",
            {"default": 0, "min": 0, "max": 1000},
        ),
        Input("grow", "INT", "Pixels the hole grows by on all sides.", {"default": 0, "min": 0, "max": 1024}),
        Input("feather", "INT", "Pixels inside the rim to blend over.", {"default": 0, "min": 0, "max": 1024}),
        Input("memory", "STRING", "Most to take, such as 6GB; empty for most of what is free.", {"default": ""}),
        Input(
            "settings",
            "STRING",
            "Further settings, as the lines of a preset, such as `lr: 0.001`.",
            {"default": "", "multiline": True},
            optional=True,
        ),
    ),
    outputs=(
        Output("IMAGE", "IMAGE", "The picture with its hole filled."),
        Output("MASK", "MASK", "What was filled, for Save Photo."),
        Output("report", "STRING", "What was done, in words."),
    ),
)
