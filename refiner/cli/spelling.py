"""Options as the command line writes them: `memory` in a message of the library becomes --memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from refiner.errors import RefinerError

if TYPE_CHECKING:
    from refiner.errors import Message, Option

_FLAGS = {"resize": "--resize-mask", "from_alpha": "--mask-from-alpha"}


def spell(option: Option) -> str:
    """An option's flag, with its value where there is one."""
    flag = _FLAGS.get(option.name, f"--{option.name.replace('_', '-')}")
    return flag if option.value is None else f"{flag} {option.value}"


def in_words(error: RefinerError | Message) -> str:
    """A message in one line, with flags for its options."""
    message = error.message if isinstance(error, RefinerError) else error
    return message.spelled(spell)
