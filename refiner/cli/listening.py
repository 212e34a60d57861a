"""Ends a command's work where the program that started it no longer reads what it says."""

from __future__ import annotations

import select
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_OFTEN = 0.5  # seconds between two looks
_CLOSED = getattr(select, "POLLERR", 0) | getattr(select, "POLLHUP", 0)


@contextmanager
def while_someone_reads() -> Iterator[None]:
    """Interrupt the block, as Ctrl-C does, once stderr is a pipe that nobody reads.

    Otherwise only the next line would find out, and between two lines the work can go on for many seconds. Where the
    system cannot tell, as on Windows, that line does.
    """
    output = _output()
    if output is None:
        yield
        return
    over = threading.Event()
    # A program started in the background of a script ignores Ctrl-C; it is told to end.
    ending = signal.SIGTERM if signal.getsignal(signal.SIGINT) is signal.SIG_IGN else signal.SIGINT

    def watch(thread: int) -> None:
        poll = select.poll()
        poll.register(output, 0)  # what tells of an end comes unasked
        while not over.wait(_OFTEN):
            if any(event & _CLOSED for _, event in poll.poll(0)):
                signal.pthread_kill(thread, ending)
                return

    watcher = threading.Thread(target=watch, args=(threading.get_ident(),), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _output() -> int | None:
    """The file that stderr writes to; None where it is none, or cannot be watched, or nothing could be interrupted."""
    main = threading.current_thread() is threading.main_thread()
    if not main or not hasattr(select, "poll"):
        return None
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError):  # not a file, or none at all
        return None
