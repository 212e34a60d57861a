"""The errors a user can cause. Each message is one line: what is wrong, what was expected, what to do.

A message names an option by its Python name, as an `Option`; the command line writes the flag instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Option:
    """An option that a message names, such as `memory`: an argument or a setting in Python, a flag on the command line.

    Attributes:
        name: of the argument or the setting.
        value: the value to give it; None for switches.
    """

    name: str
    value: str | None = None

    def __str__(self) -> str:
        return f"`{self.name}`" if self.value is None else f"`{self.name}={self.value}`"


@dataclass(frozen=True)
class Message:
    """One line for the user, in parts: text and options."""

    parts: tuple[str | Option, ...]

    def __str__(self) -> str:
        return self.spelled(str)

    def spelled(self, spell: Callable[[Option], str]) -> str:
        """The line, with options as `spell` writes them."""
        return "".join(spell(part) if isinstance(part, Option) else part for part in self.parts)


class RefinerError(Exception):
    """Base of all errors raised on purpose; the command line prints it as one line and exits with 2.

    Args:
        parts: text and options of the message, in order.
    """

    def __init__(self, *parts: str | Option) -> None:
        super().__init__(*parts)
        self.message = Message(parts)

    def __str__(self) -> str:
        return str(self.message)


class InputError(RefinerError):
    """An image, a mask, a tensor or a target file is not what the call needs."""


class SettingsError(RefinerError):
    """A preset or a settings value is unknown or out of range."""


class ModelError(RefinerError):
    """A model or its weights cannot be found, read or used, or it does not keep the interface."""


class BudgetError(RefinerError):
    """The work does not fit into the available memory, however it is cut."""


class RefinerWarning(UserWarning):
    """One line that users should know, although the work goes on; the command line shows it."""


def first_line(error: BaseException) -> str:
    """The first line of another library's error, to be quoted in one of ours; the error's type where it is empty."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
