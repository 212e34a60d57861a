"""The errors a user can cause. Each message is one line: what is wrong, what was expected, what to do."""

from __future__ import annotations


class RefinerError(Exception):
    """Base of all errors raised on purpose; the command line prints it as one line and exits with 2."""


class InputError(RefinerError):
    """An image, a mask, a tensor or a target file is not what the call needs."""


class SettingsError(RefinerError):
    """A preset or a settings value is unknown or out of range."""


class ModelError(RefinerError):
    """A model or its weights cannot be found, read or used."""


class BudgetError(RefinerError):
    """The work does not fit into the memory there is, whichever way it is cut."""


def first_line(error: BaseException) -> str:
    """What another library's error says, to stand in brackets within one of ours; its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
