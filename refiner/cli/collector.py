"""Python's collector of garbage, which would go through all that PyTorch's import makes, again and again."""

from __future__ import annotations

import gc

_SELDOM = 100_000  # new objects before it looks; Python's own number is for programs that start small
_usual = gc.get_threshold()


def rest_while_starting() -> None:
    """Have it look seldom while modules are imported, which takes a fifth longer with it."""
    gc.set_threshold(_SELDOM, *_usual[1:])


def look_again() -> None:
    """Have it look as usual, but not at what there is by now, which stays."""
    gc.freeze()
    gc.set_threshold(*_usual)


def rest_at_exit() -> None:
    """Have it leave everything as it is: Python would look through all modules as it ends, for half a second."""
    gc.freeze()
