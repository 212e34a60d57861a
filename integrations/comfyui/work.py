"""The engine on the pictures of a batch, with ComfyUI's progress, Interrupt and memory."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml

import refiner
from refiner.cli.console import what_was_done
from refiner.images.masks import read_mask
from refiner.models.registry import best_model

from . import host
from .masks import size_in_words
from .node import INPAINTER, Done, Input, Output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from refiner.images.masks import Hole

NOTHING = "Nothing was removed: the mask is empty."
_NO_LIMIT = "1000000GB"
_ROOM = 1.3  # so many times the memory of the work must be free, since the engine plans with 80 % of what is free
_PRESETS = "as the preset says"
_LEAST = np.float32(1e-3)  # the fill's least share in the hole, so that every pixel of it has some


@dataclass(frozen=True)
class Hints:
    """What goes with the pictures of a batch, beside their holes.

    Attributes:
        guides: a fill made elsewhere for each picture, (1,3,h,w); None for none.
        avoid: for each picture (H,W), true where nothing may be copied from; None for nowhere.
    """

    guides: Sequence[Tensor] | None = None
    avoid: Sequence[Tensor] | None = None


@dataclass(frozen=True)
class Filled:
    """A batch with its holes filled.

    Attributes:
        image: (B,H,W,C).
        mask: (B,H,W), the share of the fill in each pixel.
        lines: what was done, in words.
    """

    image: Tensor
    mask: Tensor
    lines: list[str]

    def done(self) -> Done:
        """What the node gives; tells the user."""
        host.say(self.lines)
        return Done((self.image, self.mask, "\n".join(self.lines)))


def fill(
    image: Tensor,
    holes: Sequence[Hole],
    inpainter: refiner.Inpainter | None,
    settings: refiner.Settings,
    hints: Hints | None = None,
) -> Filled:
    """Fill the holes of a batch (B,H,W,C), all else equal bit for bit.

    Args:
        image: (B,H,W,3) or (B,H,W,4), floating point. Values outside [0,1] are kept where nothing is filled.
        holes: one for each picture.
        inpainter: the network; None for the best one on this machine.
        settings: of the refinement.
        hints: guides and what to avoid.

    Raises:
        RefinerError: the input, the settings or the model cannot be used.
    """
    keeps_size(image, settings)
    network = refiner.load_model(best_model()) if inpainter is None else inpainter
    work = _Work(network, settings, hints or Hints(), host.ProgressBar(len(image)))
    try:
        with torch.inference_mode(mode=False), torch.no_grad():
            return work.on(image.clone(), holes)
    except BaseException as error:  # noqa: BLE001  raised again
        raise host.without_frames(error)  # noqa: B904  it is the same error
    finally:
        host.give_memory_back()


def hole_of(mask: Tensor, grow: int = 0, feather: int = 0, *, blend: bool = False) -> Hole:
    """The hole of one picture.

    Args:
        mask: (H,W); every value above 0 is hole.
        grow: pixels the hole grows by.
        feather: pixels from the hole's rim inwards over which the fill blends into the picture.
        blend: blend by the mask's own values too.
    """
    values = mask.float().cpu().numpy()
    of_its_size = refiner.Picture(np.zeros((*values.shape, 1), np.uint8))
    hole = read_mask(values > 0, of_its_size, refiner.MaskOptions(dilate=grow, feather=feather))
    if not blend:
        return hole
    share = np.where(hole.mask & (values > 0), values.clip(_LEAST, 1), 1) * hole.mask
    return replace(hole, weight=share * (1 if hole.weight is None else hole.weight))


def settings_of(
    preset: str, steps: int, memory: str, more: str, detail: str = _PRESETS, match_color: str = _PRESETS, seed: int = 0
) -> refiner.Settings:
    """A preset with the values of the widgets in it.

    Args:
        preset: its name.
        steps: predictions at each refined scale; 0 for what the preset says.
        memory: most to take; empty for what the preset says.
        more: further settings, as the lines of a preset; they replace all others.
        detail: what fills the larger scales, or what the preset says.
        match_color: `auto`, `on`, `off`, or what the preset says.
        seed: of copies.

    Raises:
        SettingsError: a line is not valid.
    """
    given: dict[str, object] = {"steps": steps} if steps else {}
    if memory.strip():
        given["memory"] = memory.strip()
    given |= {key: value for key, value in (("detail", detail), ("match_color", match_color)) if value != _PRESETS}
    if seed:
        given["seed"] = seed
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


def keeps_size(image: Tensor, settings: refiner.Settings) -> None:
    """Refuse settings that would shrink the picture: scaling is another node's work.

    Raises:
        InputError: the picture is above the settings' pixel budget.
    """
    height, width = image.shape[1:3]
    budget = settings.pixel_budget
    if settings.refine and budget is not None and height * width > budget:
        raise refiner.InputError(
            f"image: is {size_in_words(image)}, which these settings' pixel_budget of {budget} would shrink; take the "
            "preset `default`, or scale image and mask first with nodes of their own."
        )


@dataclass(frozen=True)
class _Work:
    """Fills the pictures of a batch."""

    network: refiner.Inpainter
    settings: refiner.Settings
    hints: Hints
    bar: host.ProgressBar

    def on(self, image: Tensor, holes: Sequence[Hole]) -> Filled:
        """Fill the holes of (B,H,W,C), one picture after the other."""
        lines = [str(hole.warning) for hole in holes if hole.warning is not None]
        if not any(hole.mask.any() for hole in holes):
            return Filled(image, image.new_zeros(image.shape[:3], dtype=torch.float32), [*lines, NOTHING])
        pictures: list[Tensor] = []
        masks: list[Tensor] = []
        first = next(number for number, hole in enumerate(holes) if hole.mask.any())
        with host.placed(self.network) as device:
            for number, (picture, hole) in enumerate(zip(image, holes, strict=True)):
                # Room is made once for all pictures of the batch.
                done, weight, line = self._one(picture, hole, number, device, make_room=number == first)
                pictures.append(done)
                masks.append(weight)
                lines.append(line)
                self.bar.picture_done()
        return Filled(torch.stack(pictures), torch.stack(masks), lines)

    def _one(
        self, picture: Tensor, hole: Hole, number: int, device: torch.device, *, make_room: bool
    ) -> tuple[Tensor, Tensor, str]:
        """One picture (H,W,C) filled, the share of the fill (H,W), and what was done."""
        rgb = picture[..., :3].movedim(-1, 0)[None].to(device, torch.float32).clamp(0, 1)
        mask = torch.from_numpy(hole.mask)[None, None].to(device)
        hints: dict[str, Any] = {}
        if hole.mask.any():
            if self.hints.guides is not None:
                hints["guide"] = self.hints.guides[number].to(device, torch.float32).clamp(0, 1)
            if self.hints.avoid is not None:
                hints["avoid"] = self.hints.avoid[number][None, None].to(device)
        if make_room:
            host.make_room(round(_ROOM * self._need(hole.mask, hints.get("guide"), device)))
        bar, settings = self.bar, self.settings
        result = refiner.refine(
            self.network, rgb, mask, settings, bar.on_step, bar.on_plan, on_scale=bar.on_scale, **hints
        )
        fill = result.image[0].movedim(0, -1).to(picture.device)
        inside = torch.from_numpy(hole.mask).to(picture.device)
        weight = inside.float() if hole.weight is None else torch.from_numpy(hole.weight).to(picture.device)
        known = picture[..., :3].float()
        blended = torch.lerp(known, fill, weight[..., None]).to(picture.dtype)
        done = picture.clone()
        done[..., :3] = torch.where(inside[..., None], blended, picture[..., :3])
        line = f"{what_was_done(result, settings, self.network.spec.train_size)}." if result.scales else NOTHING
        return done, weight.cpu(), line

    def _need(self, hole: np.ndarray, guide: Tensor | None, device: torch.device) -> int:
        """Bytes that the work takes where it may take all that is allowed; 0 where that is not known."""
        settings = self.settings if self.settings.memory else replace(self.settings, memory=_NO_LIMIT)
        size = False if guide is None else (guide.shape[2], guide.shape[3])
        boxes = refiner.HoleBoxes.of(hole)
        return refiner.make_plan(boxes, self.network, settings, guide=size, device=device).bytes or 0


INPAINTER_INPUT = Input(
    "inpainter",
    INPAINTER,
    "From Load Inpainter or Inpainter From Model; the best one on this machine if left out.",
    optional=True,
)
_PRESET = (
    Input("preset", "COMBO", "Settings by name.", {"default": "default"}, choices=refiner.preset_names),
    Input(
        "steps",
        "INT",
        "Predictions at each refined scale; 0 for what the preset says.",
        {"default": 0, "min": 0, "max": 1000},
    ),
)
_MEMORY = Input("memory", "STRING", "Most to take, such as 6GB; empty for most of what is free.", {"default": ""})
FURTHER = (
    Input(
        "settings",
        "STRING",
        "Further settings, as the lines of a preset, such as `lr: 0.001`; they go over the widgets.",
        {"default": "", "multiline": True},
        optional=True,
    ),
    Input(
        "detail",
        "COMBO",
        "What fills the large scales: the network's features, the picture's own pixels (exemplar), or both.",
        {"default": _PRESETS},
        choices=lambda: [_PRESETS, "auto", "features", "exemplar", "both"],
        optional=True,
    ),
    Input(
        "match_color",
        "COMBO",
        "Whether the network's fill takes on the colors around it.",
        {"default": _PRESETS},
        choices=lambda: [_PRESETS, "auto", "on", "off"],
        optional=True,
    ),
    Input(
        "seed",
        "INT",
        "Another number gives another fill by copies, to choose from; 0 for the preset's.",
        {"default": 0, "min": 0, "max": 2**32 - 1, "control_after_generate": True},
        optional=True,
    ),
    Input(
        "blend_mask",
        "BOOLEAN",
        "Blend by the mask's grays; off, all that is not black is filled in full.",
        {"default": False},
        optional=True,
    ),
)
_GROW = Input("grow", "INT", "Pixels the hole grows by on all sides.", {"default": 0, "min": 0, "max": 1024})
_FEATHER = Input("feather", "INT", "Pixels inside the rim to blend over.", {"default": 0, "min": 0, "max": 1024})
WIDGETS = (*_PRESET, _GROW, _FEATHER, _MEMORY)
WIDGETS_WITHOUT_GROW = (*_PRESET, _FEATHER, _MEMORY)
OUTPUTS = (
    Output("IMAGE", "IMAGE", "The picture with its hole filled."),
    Output("MASK", "MASK", "What was filled, for Save Photo."),
    Output("report", "STRING", "What was done, in words."),
)
