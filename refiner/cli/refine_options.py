"""Options on model and refinement that several commands share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from refiner.settings import Settings

_PATH = click.Path(path_type=Path)


@dataclass(frozen=True)
class Choices:
    """What the user chose.

    Attributes:
        model: name, path or `module:attribute`.
        weights: file in place of a named model's own.
        preset: name or path.
        device: where to compute.
        given: settings that the command line sets over the preset's.
        refine: off for the model's own result.
    """

    model: str
    weights: Path | None
    preset: str
    device: str
    given: dict[str, Any]
    refine: bool

    def settings(self) -> Settings:
        """The preset with what was given over it.

        Raises:
            SettingsError: the preset is not known, or a value is out of range.
        """
        from refiner.settings import load_preset  # noqa: PLC0415  so that help comes at once

        settings = replace(load_preset(self.preset), **self.given)
        return settings if self.refine else replace(settings, refine=False)

    def idle(self) -> list[str]:
        """Options given that have no effect without refinement."""
        useful = ("precision", "memory", "match_color")
        return [f"--{name.replace('_', '-')}" for name in self.given if not self.refine and name not in useful]


def refine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options on model and refinement; it is called with them as `choices`, a `Choices`."""

    @click.option(
        "--model",
        default="lama-small",
        show_default=True,
        metavar="NAME|PATH|MODULE:ATTRIBUTE",
        help="See `refiner weights list`.",
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
    @click.option("--steps", type=int, metavar="N", help="Predictions at each refined scale [preset: 15].")
    @click.option("--lr", type=float, metavar="X", help="Learning rate of the features [preset: the model's own].")
    @click.option("--min-side", type=int, metavar="N", help="Short side of the smallest scale [preset: the model's].")
    @click.option(
        "--windows",
        type=click.Choice(["auto", "off"]),
        help="Refine around the holes alone, or the whole photo [preset: auto].",
    )
    @click.option(
        "--precision",
        type=click.Choice(["auto", "float32", "bfloat16"]),
        help="Of convolutions [preset: auto, bfloat16 where the hardware has it].",
    )
    @click.option("--memory", metavar="SIZE", help="Most to take, such as 6GB [preset: most of what is free].")
    @click.option("--match-color", is_flag=True, help="Remove the fill's color offset against its surroundings.")
    @click.option("--no-refine", is_flag=True, help="The model's own result: one pass at full size.")
    @wraps(command)
    def with_options(
        *args: Any,
        model: str,
        weights: Path | None,
        preset: str,
        device: str,
        no_refine: bool,
        match_color: bool,
        steps: int | None,
        lr: float | None,
        min_side: int | None,
        windows: str | None,
        precision: str | None,
        memory: str | None,
        **kwargs: Any,
    ) -> Any:
        given: dict[str, Any] = {
            "steps": steps,
            "lr": lr,
            "min_side": min_side,
            "windows": windows,
            "precision": precision,
            "memory": memory,
            "match_color": match_color or None,
        }
        given = {name: value for name, value in given.items() if value is not None}
        choices = Choices(model, weights, preset, device, given, refine=not no_refine)
        return command(*args, choices=choices, **kwargs)

    return with_options
