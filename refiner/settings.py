"""The settings of a refinement, and the presets that name sets of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from refiner.byte_sizes import parse_bytes
from refiner.choices import Detail, GuideSource
from refiner.config_files import config_names, find_config, make, number_as_meant, read_mapping, with_new_names
from refiner.errors import SettingsError

Keep = Literal["best", "last"]
GuideRegion = Literal["eroded", "soft"]
Windows = Literal["auto", "split", "off"]
MatchColor = Literal["auto", "off", "mean", "smooth"]
Precision = Literal["auto", "float32", "tf32", "bfloat16"]
RENAMED = {"leaf_rates": "lr_scale"}  # in files written before
_MAX_EROSION = 255  # its cost grows with the square
_STEPS = "a whole number from 1, or several in a list, the smallest scale first"
_MAX_SEED = 2**32 - 1
_MAX_NUMBER = 1e6  # beyond it, float32 has no use for a rate, a weight or a share


_CHOICES = {
    "guide": GuideSource,
    "detail": Detail,
    "guide_region": GuideRegion,
    "keep": Keep,
    "windows": Windows,
    "precision": Precision,
    "match_color": MatchColor,
}


@dataclass(frozen=True)
class Flag:
    """Says of a setting, in its annotation, that it has a flag of its own on the command line.

    Attributes:
        summary: the line of `--help`.
        metavar: what its value is called there.
        unrefined: whether it has an effect without refinement too.
        alone: its value where the flag is given without one; None where it needs one.
    """

    summary: str
    metavar: str | None = None
    unrefined: bool = False
    alone: str | None = None


@dataclass(frozen=True)
class Settings:
    """How a picture is refined. The defaults are those of `configs/default.yaml`.

    Attributes:
        refine: off gives the network's own result: one pass at full size.
        guide: who fills the smallest scale: `model`, the network; `exemplar`, the photo's own pixels; `auto` takes what
            `detail` calls for, or the one that holds better.
        detail: what fills the larger scales: `features`, the network's features, refined as in the paper; `exemplar`,
            the photo's own pixels, copied; `both`, the smaller scale with detail from the photo; `auto` does what the
            model asks for, or takes for each part of the hole what holds better.
        min_side: short side in pixels that the pyramid's smallest scale aims at; the real one is within a
            factor of sqrt(2) of it. None takes the side the model was trained for.
        max_scales: most scales the pyramid may have; None for as many as the picture needs.
        steps: predictions at each refined scale, one more than there are updates by Adam; several by scale, the
            smallest refined one first and the last repeated.
        min_gain: end a window's optimization where the guide's term of the loss, or the whole loss where it has no such
            term, has fallen by less than this share over the last two predictions; None to make all of them.
        lr: Adam's learning rate on the features. None takes the model's own.
        guide_region: where the prediction is held to the previous scale's result: `eroded`, the hole less a rim of one
            width, as in the paper; `soft`, all of the hole, by weights that rise from its edge over a distance that
            follows the hole's own width.
        erosion: side in pixels, an odd number, of the ellipse that erodes the hole at half the scale's size; inside
            what is left the prediction is held to the previous scale's result. 1 does not erode. Where the region is
            soft, weights rise over half of it at most.
        guide_weight: factor on that term of the loss, against the photo's known pixels; 0 leaves it out.
        texture_weight: of a third term, how far the distribution of the fill's finest detail is from that of the photo
            around it: the length of its gradient in terms of the others'; 0 leaves it out.
        back_projection: how often what a window's result, halved, differs from the previous scale's by is added to it,
            after the optimization and away from the hole's rim; 0 for never.
        pixel_budget: a larger picture (height x width) is shrunk to this many pixels first, and so is the
            result; None never shrinks.
        keep: which prediction of a scale is its result: `best` the one of lowest loss, which is the
            unrefined one where refinement made it worse; `last` the last one, as the authors do.
        windows: `auto` refines windows around the holes where they are smaller than the picture; `split` cuts the
            window of a long or branched hole into several that overlap, where that covers clearly less; `off` refines
            the whole picture. The smallest scale sees the whole picture in any case.
        context: margin of a window around its hole, as a share of the hole's shorter side, or of the side the model
            was trained for where that is larger.
        precision: of convolutions: `auto` takes `bfloat16` where the hardware computes in it, and `float32`
            elsewhere; `tf32` is float32 multiplied with 10 bits of mantissa, on NVIDIA GPUs from Ampere on. FFTs,
            features, optimizer and loss are always in the picture's own precision, pictures of 16 bits in float32.
        memory: most that the work may take, such as `6GB`; the picture is cut into strips and smaller windows to fit.
            None for most of what is free on the device.
        lr_scale: factors on the learning rate of single features by name, for models whose features are several,
            such as `{"skips": 0.1}`; 0 freezes. None takes the model's own.
        balance: layout against detail, for models with local and global features, such as LaMa: 0 keeps the network's
            layout and moves local features alone, 1 moves global ones alone, 0.5 both as fast.
        blend_rim: spread what a network's prediction differs from the photo by at the hole's edge a few pixels into
            the fill, so that no step remains there; not where `refine` is off.
        grain: give a network's fill the grain that flat areas of the photo have, at the full size, as far as the fill's
            own finest detail falls short of it; not where `refine` is off.
        match_color: remove the color offset of a network's fill, measured on the ring of known pixels around each hole:
            `mean`, one for each hole; `smooth`, varying along the rim, in a space of even perception; `auto`, smooth
            unless `refine` is off. True is read as `mean`, False as `off`.
        seed: of what is drawn at random, in copies, grain and the texture term: the same number gives the same result,
            another one another.

    Raises:
        SettingsError: a value is of the wrong type or out of range.
    """

    refine: bool = True
    guide: GuideSource = "auto"
    detail: Annotated[Detail, Flag("What fills the larger scales [preset: auto].")] = "auto"
    min_side: Annotated[int | None, Flag("Short side of the smallest scale [preset: the model's].", "N")] = None
    max_scales: int | None = None
    steps: Annotated[
        int | tuple[int, ...],
        Flag(
            "Predictions at each refined scale, or by scale, the smallest first, as 12,8,4 [preset: 4,4,2].", "N[,N...]"
        ),
    ] = (4, 4, 2)
    min_gain: float | None = None
    lr: Annotated[float | None, Flag("Learning rate of the features [preset: the model's own].", "X")] = None
    guide_region: GuideRegion = "eroded"
    erosion: int = 15
    guide_weight: float = 1.0
    texture_weight: float = 0.0
    back_projection: int = 1
    pixel_budget: int | None = None
    keep: Keep = "best"
    windows: Annotated[Windows, Flag("Refine around the holes alone, or the whole photo [preset: auto].")] = "auto"
    context: float = 0.25
    precision: Annotated[
        Precision, Flag("Of convolutions [preset: auto, bfloat16 where the hardware has it].", unrefined=True)
    ] = "auto"
    memory: Annotated[
        str | None, Flag("Most to take, such as 6GB [preset: most of what is free].", "SIZE", unrefined=True)
    ] = None
    lr_scale: Mapping[str, float] | None = None
    balance: float = 0.5
    blend_rim: bool = True
    grain: bool = True
    match_color: Annotated[
        MatchColor,
        Flag("Remove the fill's color offset against its surroundings [alone: mean].", unrefined=True, alone="mean"),
    ] = "auto"
    seed: Annotated[int, Flag("Another number gives another fill by copies [preset: 0].", "N")] = 0

    def __post_init__(self) -> None:
        if isinstance(self.match_color, bool):  # as it was before
            object.__setattr__(self, "match_color", "mean" if self.match_color else "off")
        for name in ("refine", "blend_rim", "grain"):
            _require(name, getattr(self, name), isinstance(getattr(self, name), bool), "true or false")
        for name, minimum in (("min_side", 16), ("max_scales", 1), ("pixel_budget", 256)):
            value = getattr(self, name)
            _require(name, value, value is None or _is_int(value, minimum), f"a whole number from {minimum} or null")
        _require("steps", self.steps, _are_steps(self.steps), _STEPS)
        if not isinstance(self.steps, int):  # YAML and JSON have lists alone
            object.__setattr__(self, "steps", tuple(self.steps))
        gain = self.min_gain
        share = gain is None or (_is_positive(gain) and gain < 1)
        _require("min_gain", gain, share, "a number between 0 and 1, or null")
        _require("lr", self.lr, self.lr is None or _is_positive(self.lr), "a number above 0, up to 1e6, or null")
        odd = _is_int(self.erosion, 1) and self.erosion % 2 == 1 and self.erosion <= _MAX_EROSION
        _require("erosion", self.erosion, odd, f"an odd whole number from 1 to {_MAX_EROSION}")
        for name in ("guide_weight", "texture_weight"):
            weight = getattr(self, name)
            _require(name, weight, _is_positive(weight) or _is_zero(weight), "a number from 0 to 1e6")
        share = _is_zero(self.balance) or (_is_positive(self.balance) and self.balance <= 1)
        _require("balance", self.balance, share, "a number from 0 to 1")
        _require("back_projection", self.back_projection, _is_int(self.back_projection, 0), "a whole number from 0")
        seed = _is_int(self.seed, 0) and self.seed <= _MAX_SEED
        _require("seed", self.seed, seed, f"a whole number from 0 to {_MAX_SEED}")
        _require("context", self.context, _is_positive(self.context), "a number above 0, up to 1e6")
        _require("memory", self.memory, _is_bytes(self.memory), "a size such as 6GB or null")
        factors = self.lr_scale
        valid = factors is None or (isinstance(factors, Mapping) and all(_is_factor(*item) for item in factors.items()))
        _require("lr_scale", factors, valid, "names and numbers from 0 to 1e6, or null")
        for name, choices in _CHOICES.items():
            known = get_args(choices)
            _require(name, getattr(self, name), getattr(self, name) in known, " or ".join(known))

    def color_match(self) -> MatchColor:
        """`match_color` in force: what `auto` stands for, or what was asked for."""
        if self.match_color != "auto":
            return self.match_color
        return "smooth" if self.refine else "off"

    def steps_at(self, scale: int) -> int:
        """Predictions at a refined scale, of which the smallest is 0."""
        return self.steps if isinstance(self.steps, int) else self.steps[min(scale, len(self.steps) - 1)]


def _are_steps(value: object) -> bool:
    several = isinstance(value, (list, tuple)) and len(value) > 0 and all(_is_int(each, 1) for each in value)
    return several or _is_int(value, 1)


def _is_bytes(value: object) -> bool:
    if not isinstance(value, str):
        return value is None
    try:
        parse_bytes(value)
    except ValueError:
        return False
    return True


def load_preset(name_or_path: str) -> Settings:
    """Read settings from a preset's name or a YAML file; keys that are left out keep their default.

    Raises:
        SettingsError: there is no such preset or file, it is not YAML, or a key or value is not valid.
    """
    path = find_config(name_or_path, "preset")
    values = with_new_names(read_mapping(path), RENAMED, str(path))
    return make(Settings, values, str(path), _as_meant)


def _as_meant(key: str, value: object) -> object:
    """What YAML reads differently from what a person means: a bare `off`, `1e-3`, and plain bytes."""
    if key == "windows" and value is False:
        return "off"
    if key in ("lr", "guide_weight", "texture_weight", "context", "min_gain", "balance"):
        return number_as_meant(value)
    if key == "memory" and _is_int(value, 1):
        return str(value)
    return value


def preset_names() -> list[str]:
    """Names of the presets that come with this package."""
    return config_names()


def _is_int(value: object, minimum: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= minimum


def _is_positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= _MAX_NUMBER


def _is_factor(name: object, value: object) -> bool:
    return isinstance(name, str) and (_is_positive(value) or _is_zero(value))


def _is_zero(value: object) -> bool:
    return value == 0 and not isinstance(value, bool)


def _require(name: str, value: object, valid: bool, expected: str) -> None:
    if not valid:
        raise SettingsError(f"{name}: expected {expected}, got {value!r}.")
