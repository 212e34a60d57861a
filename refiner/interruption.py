"""Work that is ended in the middle of a step, where waiting for the step's end would take seconds."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_check: ContextVar[Callable[[bool], object] | None] = ContextVar("check", default=None)
_can_stop = ContextVar("can_stop", default=False)


class Interruption(BaseException):
    """Carries what a check raised. Not an `Exception`: a network is anybody's code, and may catch those.

    Args:
        why: what the check raised.
    """

    def __init__(self, why: Exception) -> None:
        super().__init__(why)
        self.why = why


@contextmanager
def interrupted_by(check: Callable[[bool], object]) -> Iterator[None]:
    """Let a check end the work in this context, in this thread; what it raises comes out of the context as it is.

    Args:
        check: called often, with whether the work has something to give if it is stopped here.
    """
    token = _check.set(check)
    try:
        yield
    except Interruption as interruption:
        raise interruption.why from None
    finally:
        _check.reset(token)


@contextmanager
def stoppable() -> Iterator[None]:
    """Work that can be stopped at any place: whoever calls it goes on with what there is."""
    token = _can_stop.set(True)
    try:
        yield
    finally:
        _can_stop.reset(token)


def breathe() -> None:
    """Called now and then by long work on the CPU: ends it where that was asked for."""
    check = _check.get()
    if check is not None:
        try:
            check(_can_stop.get())
        except Exception as why:  # noqa: BLE001  it is the caller's
            raise Interruption(why) from None
