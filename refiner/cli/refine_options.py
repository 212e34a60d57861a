"""Options on model and refinement that several commands share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

import click

from refiner.cli.counts import Counts
from refiner.cli.spelling import spell
from refiner.errors import Option
from refiner.settings import Flag, Settings, load_preset

if TYPE_CHECKING:
    from collections.abc import Callable

_PATH = click.Path(path_type=Path)
# Each setting that has a flag, by name: its type and its `Flag`.
_FLAGS: dict[str, tuple[Any, Flag]] = {
    name: get_args(hint)
    for name, hint in get_type_hints(Settings, include_extras=True).items()
    if get_origin(hint) is Annotated
}


@dataclass(frozen=True)
class Choices:
    """The model and settings that the user chose.

    Attributes:
        named: name, path or `module:attribute` of the model; None for the best one on this machine.
        weights: file in place of a named model's own.
        preset: name or path.
        device: where to compute.
        given: settings from the command line, which replace the preset's.
        refine: off for the model's own result.
    """

    named: str | None
    weights: Path | None
    preset: str
    device: str
    given: dict[str, Any]
    refine: bool

    @property
    def model(self) -> str:
        """Name, path or `module:attribute` of the model; the best one on this machine where none was named."""
        if self.named is not None:
            return self.named
        from refiner.models.registry import best_model  # noqa: PLC0415  imports PyTorch

        return best_model()

    def settings(self) -> Settings:
        """The preset with the given settings in it.

        Raises:
            SettingsError: the preset is not known, or a value is out of range.
        """
        settings = replace(load_preset(self.preset), **self.given)
        return settings if self.refine else replace(settings, refine=False)

    def idle(self) -> list[str]:
        """The given options that have no effect without refinement."""
        if self.refine:
            return []
        return [spell(Option(name)) for name in self.given if not _FLAGS[name][1].unrefined]


def refine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options on model and refinement; the command gets them as `choices`, a `Choices`."""

    @click.option(
        "--model",
        "named",
        metavar="NAME|PATH|MODULE:ATTRIBUTE",
        help="See `refiner weights list` [default: the best one that is here].",
    )
    @click.option("--weights", type=_PATH, metavar="PATH", help="Weights file in place of the named model's own.")
    @click.option(
        "--preset",
        default="default",
        show_default=True,
        metavar="NAME|FILE",
        help="default, reference, or a YAML file.",
    )
    @click.option(
        "--device",
        default="auto",
        show_default=True,
        metavar="auto|cpu|cuda|mps",
        help="Where to compute; cuda:0,cuda:1 shares the network among several.",
    )
    @_setting_options
    @click.option("--no-refine", is_flag=True, help="The model's own result: one pass at full size.")
    @wraps(command)
    def with_options(
        *args: Any,
        named: str | None,
        weights: Path | None,
        preset: str,
        device: str,
        no_refine: bool,
        given: dict[str, Any],
        **kwargs: Any,
    ) -> Any:
        choices = Choices(named, weights, preset, device, given, refine=not no_refine)
        return command(*args, choices=choices, **kwargs)

    return with_options


def _setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add a flag for each setting that has one; the command gets the given settings as `given`, by name."""

    @wraps(command)
    def with_options(*args: Any, **kwargs: Any) -> Any:
        values = {name: kwargs.pop(name) for name in _FLAGS}
        return command(*args, given={name: value for name, value in values.items() if value is not None}, **kwargs)

    for name, (kind, flag) in reversed(_FLAGS.items()):
        value: dict[str, Any] = {"type": _click_type(kind), "metavar": flag.metavar}
        if kind is bool:
            value = {"is_flag": True, "default": None}
        elif flag.alone is not None:
            value |= {"is_flag": False, "flag_value": flag.alone}
        with_options = click.option(spell(Option(name)), name, help=flag.summary, **value)(with_options)
    return with_options


def _click_type(kind: Any) -> Any:
    """The type with which click reads a setting of this type; None among the values is left out."""
    if get_origin(kind) is Literal:
        return click.Choice(get_args(kind))
    if any(get_origin(part) is tuple for part in get_args(kind)):
        return Counts()
    return next((part for part in get_args(kind) if part is not type(None)), kind)
