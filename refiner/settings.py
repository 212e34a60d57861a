"""The settings of a refinement, and the presets that name sets of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from refiner.byte_sizes import parse_bytes
from refiner.config_files import config_names, find_config, make, number_as_meant, read_mapping
from refiner.detail import Detail
from refiner.errors import SettingsError

Start = Literal["auto", "model", "exemplar"]
Keep = Literal["best", "last"]
Windows = Literal["auto", "off"]
MatchColor = Literal["auto", "on", "off"]
Precision = Literal["auto", "float32", "tf32", "bfloat16"]
_STEPS = "a whole number from 1, or several in a list, the smallest scale first"
_MAX_SEED = 2**32 - 1
_MAX_RATE = 1e6  # beyond it, float32 has no use for a learning rate


_CHOICES = {
    "start": Start,
    "detail": Detail,
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
        start: who fills the smallest scale: `model`, the network; `exemplar`, the photo's own pixels; `auto` takes what
            `detail` calls for, or the one that holds better.
        detail: what fills the larger scales: `features`, the network's features, refined as in the paper; `exemplar`,
            the photo's own pixels, copied; `both`, the smaller scale with detail from the photo; `auto` does what the
            model asks for, or takes for each region of the hole what holds better.
        min_side: short side in pixels that the pyramid's smallest scale aims at; the real one is within a
            factor of sqrt(2) of it. None takes the side the model was trained for.
        max_scales: most scales the pyramid may have; None for as many as the picture needs.
        steps: predictions at each refined scale, one more than there are updates by Adam; several by scale, the
            smallest refined one first and the last repeated.
        lr: Adam's learning rate on the features. None takes the model's own.
        keep: which prediction of a scale is its result: `best` the one of lowest loss, which is the
            unrefined one where refinement made it worse; `last` the last one, as the authors do.
        back_projection: how often what a window's result, halved, differs from the smaller scale's by is added to it,
            after the optimization and away from the hole's rim; 0 for never.
        pixel_budget: a larger picture (height x width) is shrunk to this many pixels first, and so is the
            result; None never shrinks.
        windows: `auto` refines windows around the holes where they are smaller than the picture; `off` refines the
            whole picture. The smallest scale sees the whole picture in any case.
        precision: of convolutions: `auto` takes `tf32` on NVIDIA GPUs from Ampere on, `bfloat16` where a CPU computes
            in it, and `float32` elsewhere; `tf32` is float32 multiplied with 10 bits of mantissa. FFTs,
            features, optimizer and loss are always in the picture's own precision, pictures of 16 bits in float32.
        memory: most that the work may take, such as `6GB`; the picture is cut into strips and smaller windows to fit.
            None for most of what is free on the device.
        match_color: whether a network's fill takes on the colors around it, by what it differs from the photo on the
            ring of known pixels around each hole; `auto` does so unless `refine` is off.
        blend_rim: whether what a network's prediction differs from the photo by at the hole's edge is spread a few
            pixels into the fill, so that no step remains there; not where `refine` is off.
        grain: whether a network's fill gets the grain that flat areas of the photo have, at the full size, as far as
            the fill's own finest detail falls short of it; not where `refine` is off.
        seed: of what is drawn at random, in copies and grain: the same number gives the same result, another one
            another.

    Raises:
        SettingsError: a value is of the wrong type or out of range.
    """

    refine: bool = True
    start: Annotated[Start, Flag("Who fills the smallest scale [preset: auto].")] = "auto"
    detail: Annotated[Detail, Flag("What fills the larger scales [preset: auto].")] = "auto"
    min_side: Annotated[int | None, Flag("Short side of the smallest scale [preset: the model's].", "N")] = None
    max_scales: int | None = None
    steps: Annotated[
        int | tuple[int, ...],
        Flag(
            "Predictions at each refined scale, or by scale, the smallest first, as 12,8,4 [preset: 4,4,2].", "N[,N...]"
        ),
    ] = (4, 4, 2)
    lr: Annotated[float | None, Flag("Learning rate of the features [preset: the model's own].", "X")] = None
    keep: Keep = "best"
    back_projection: int = 1
    pixel_budget: int | None = None
    windows: Annotated[Windows, Flag("Refine around the holes alone, or the whole photo [preset: auto].")] = "auto"
    precision: Annotated[
        Precision, Flag("Of convolutions [preset: auto, the fastest that the hardware has].", unrefined=True)
    ] = "auto"
    memory: Annotated[
        str | None, Flag("Most to take, such as 6GB [preset: most of what is free].", "SIZE", unrefined=True)
    ] = None
    match_color: Annotated[
        MatchColor,
        Flag(
            "Give the network's fill the colors around it [alone: on; preset: auto, where it is refined].",
            unrefined=True,
            alone="on",
        ),
    ] = "auto"
    blend_rim: bool = True
    grain: bool = True
    seed: Annotated[int, Flag("Another number gives another fill by copies [preset: 0].", "N")] = 0

    def __post_init__(self) -> None:
        for name in ("refine", "blend_rim", "grain"):
            _require(name, getattr(self, name), isinstance(getattr(self, name), bool), "true or false")
        for name, minimum in (("min_side", 16), ("max_scales", 1), ("pixel_budget", 256)):
            value = getattr(self, name)
            _require(name, value, value is None or _is_int(value, minimum), f"a whole number from {minimum} or null")
        _require("steps", self.steps, _are_steps(self.steps), _STEPS)
        if not isinstance(self.steps, int):  # YAML and JSON have lists alone
            object.__setattr__(self, "steps", tuple(self.steps))
        _require("lr", self.lr, self.lr is None or _is_rate(self.lr), "a number above 0, up to 1e6, or null")
        _require("back_projection", self.back_projection, _is_int(self.back_projection, 0), "a whole number from 0")
        seed = _is_int(self.seed, 0) and self.seed <= _MAX_SEED
        _require("seed", self.seed, seed, f"a whole number from 0 to {_MAX_SEED}")
        _require("memory", self.memory, _is_bytes(self.memory), "a size such as 6GB or null")
        for name, choices in _CHOICES.items():
            known = get_args(choices)
            _require(name, getattr(self, name), getattr(self, name) in known, " or ".join(known))

    @property
    def matches_color(self) -> bool:
        """Whether a network's fill takes on the colors around it: what `match_color` comes to."""
        return self.match_color == "on" or (self.match_color == "auto" and self.refine)

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
    return make(Settings, read_mapping(path), str(path), _as_meant)


def _as_meant(key: str, value: object) -> object:
    """What YAML reads differently from what a person means: a bare `on` or `off`, `1e-3`, and plain bytes."""
    if value is False and key in ("windows", "match_color"):
        return "off"
    if value is True and key == "match_color":
        return "on"
    if key == "lr":
        return number_as_meant(value)
    if key == "memory" and _is_int(value, 1):
        return str(value)
    return value


def preset_names() -> list[str]:
    """Names of the presets that come with this package."""
    return config_names()


def _is_int(value: object, minimum: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= minimum


def _is_rate(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= _MAX_RATE


def _require(name: str, value: object, valid: bool, expected: str) -> None:
    if not valid:
        raise SettingsError(f"{name}: expected {expected}, got {value!r}.")
