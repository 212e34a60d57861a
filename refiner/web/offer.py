"""What a visitor may choose: model, preset, device and settings, by name alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

import torch

from refiner.models.registry import model_names
from refiner.settings import Flag, Settings, load_preset, preset_names
from refiner.web.problems import UNPROCESSABLE, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

_FLAGS: dict[str, tuple[Any, Flag]] = {
    name: get_args(hint)
    for name, hint in get_type_hints(Settings, include_extras=True).items()
    if get_origin(hint) is Annotated
}
_OPERATORS = {"memory"}  # settings that visitors cannot choose, since they share the machine
_MOST = {"steps": 200, "min_side": 4096}  # with larger values, one job would keep other visitors waiting for hours


@dataclass(frozen=True)
class Defaults:
    """What is used where a visitor chooses nothing.

    Attributes:
        model: name, path or `module:attribute`; a visitor can only choose this one or a model by name.
        weights: file in place of a named model's own.
        preset: name or path.
        device: as `pick_devices` reads it.
        given: settings that replace the preset's.
        refine: off for the model's own result.
    """

    model: str = "lama-small"
    weights: Path | None = None
    preset: str = "default"
    device: str = "auto"
    given: Mapping[str, Any] | None = None
    refine: bool = True


@dataclass(frozen=True)
class Choice:
    """Model, device and settings of one job."""

    model: str
    weights: Path | None
    device: str
    settings: Settings


class Offer:
    """What a visitor can choose from.

    Args:
        defaults: what is used where a visitor chooses nothing.
    """

    def __init__(self, defaults: Defaults) -> None:
        self._defaults = defaults
        self._models = list(dict.fromkeys([defaults.model, *model_names()]))
        self._presets = list(dict.fromkeys([defaults.preset, *preset_names()]))
        self._devices = list(dict.fromkeys([defaults.device, *_devices()]))
        self._settings(defaults.preset, {})  # so that a bad default fails now and not at the first job

    def choose(self, asked: Mapping[str, Any]) -> Choice:
        """The choice that a request makes, with defaults for the rest.

        Raises:
            Problem: it names something that is not offered.
            SettingsError: a setting is out of range.
        """
        own = self._defaults
        model = _one_of("model", asked.get("model"), self._models, own.model)
        preset = _one_of("preset", asked.get("preset"), self._presets, own.preset)
        device = _one_of("device", asked.get("device"), self._devices, own.device)
        given = asked.get("settings") or {}
        if not isinstance(given, dict):
            raise Problem(UNPROCESSABLE, "settings: expected names and values.")
        weights = own.weights if model == own.model else None
        return Choice(model, weights, device, self._settings(preset, given))

    def to_dict(self) -> dict[str, Any]:
        """The choices and defaults, for the page's form."""
        own = self._defaults
        return {
            "models": [{"value": name, "label": Path(name).name} for name in self._models],
            "presets": [{"value": name, "label": Path(name).stem} for name in self._presets],
            "devices": self._devices,
            "defaults": {"model": own.model, "preset": own.preset, "device": own.device},
            "settings": self._form(),
        }

    def _settings(self, preset: str, given: Mapping[str, Any]) -> Settings:
        unknown = sorted(set(given) - _offered())
        if unknown:
            raise Problem(UNPROCESSABLE, f"settings: {', '.join(unknown)}: expected some of {', '.join(_offered())}.")
        for name, most in _MOST.items():
            value = given.get(name)
            several = value if isinstance(value, list) else [value]
            if any(isinstance(each, int) and each > most for each in several):
                raise Problem(UNPROCESSABLE, f"{name}: expected up to {most} on this server, got {value}.")
        settings = load_preset(preset)
        settings = replace(settings, **(self._defaults.given or {}), refine=settings.refine and self._defaults.refine)
        # The page gives the full-size photo back, so a preset's pixel budget is left out.
        return replace(settings, **given, pixel_budget=None)

    def _form(self) -> list[dict[str, Any]]:
        values = self._settings(self._defaults.preset, {})
        rows = []
        for name in sorted(_offered() & set(_FLAGS)):
            kind, flag = _FLAGS[name]
            choices = list(get_args(kind)) if get_origin(kind) is Literal else []
            several = any(get_origin(part) is tuple for part in get_args(kind))
            plain = kind if isinstance(kind, type) else next((p for p in get_args(kind) if isinstance(p, type)), str)
            rows.append(
                {
                    "name": name,
                    "kind": "choice" if choices else "counts" if several else plain.__name__,
                    "choices": choices,
                    "summary": flag.summary.split(" [")[0].rstrip("."),
                    "value": getattr(values, name),
                    "most": _MOST.get(name),
                }
            )
        return [{"name": "refine", "kind": "bool", "choices": [], "value": values.refine, "most": None}, *rows]


def _offered() -> set[str]:
    return (set(_FLAGS) | {"refine"}) - _OPERATORS


def _one_of(what: str, asked: object, offered: list[str], default: str) -> str:
    if asked is None:
        return default
    if asked not in offered:
        raise Problem(UNPROCESSABLE, f"{what} {asked!r}: expected one of {', '.join(offered)}.")
    return str(asked)


def _devices() -> list[str]:
    """Devices of this machine by name, each with a queue of its own."""
    cuda = [f"cuda:{number}" for number in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return [*cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]
