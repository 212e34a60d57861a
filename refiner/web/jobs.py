"""One visitor's work: it tells its watchers of every change, and ends at once where that is asked for."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from refiner.engine.optimize import StopRefinement
from refiner.web.records import new_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

State = Literal["waiting", "working", "done", "failed", "canceled"]

_HEARTBEAT = 15.0  # seconds between signs of life to a watcher, so that no proxy hangs up
_BREATH = 0.05  # seconds between snapshots; some work reports hundreds of times a second


class Canceled(Exception):  # noqa: N818  not an error: it was asked for
    """Raised in a callback to end a job's work without a result."""


@dataclass(eq=False)
class Job:
    """Work for one visitor.

    Attributes:
        owner: the visitor.
        device: where it runs; each device has its own queue.
        work: called once with the job, in the device's thread; let go of when the job is over, with all it holds.
        about: what the job is for, in values that JSON takes.
        id: names the job in requests.
        state: how far it is.
        news: what the work has reported, in values that JSON takes.
        shown: pictures of the work so far, PNG, by number.
        error: why it failed, in one line.
        position: how many jobs are before it.
        turn: its place in line; each visitor's jobs have turns of their own, see `Queue`.
        gives_way: whether it is canceled as soon as another job comes.
    """

    owner: str
    device: str
    work: Callable[[Job], object] | None
    about: dict[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=new_id)
    state: State = "waiting"
    news: dict[str, Any] = field(default_factory=dict)
    shown: dict[int, bytes] = field(default_factory=dict)
    error: str | None = None
    position: int = 0
    turn: int = 0
    gives_way: bool = False
    created: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    _wish: Literal["stop", "cancel"] | None = None
    _committed: bool = False
    _changing: threading.Lock = field(default_factory=threading.Lock)
    _listeners: set[Callable[[], object]] = field(default_factory=set)

    @property
    def over(self) -> bool:
        """Whether the job has ended; work that was canceled may still be on its way to where it notices."""
        return self.state in ("done", "failed", "canceled")

    def check(self, can_stop: bool = True) -> None:
        """Called between predictions and within them: ends the work where that was asked for.

        Args:
            can_stop: whether the work has a result to give here.

        Raises:
            StopRefinement: the job is to end with its best result so far.
            Canceled: the job is to end without a result.
        """
        if self._wish == "cancel":
            raise Canceled
        if self._wish == "stop" and can_stop:
            raise StopRefinement

    def commit(self) -> None:
        """Called before the result is kept; from then on the job cannot be canceled.

        Raises:
            Canceled: it was canceled before.
        """
        with self._changing:
            if self._wish == "cancel":
                raise Canceled
            self._committed = True

    def stop(self) -> None:
        """Ask the work to end with its best result so far, which it does within one prediction."""
        with self._changing:
            if self._wish is None:
                self._wish = "stop"
        self.ring()

    def cancel(self) -> bool:
        """End the job now, whenever the work notices; gives false where its result is being kept already."""
        with self._changing:
            if self._committed:
                return False
            self._wish = "cancel"
        self.end("canceled")
        return True

    def end(self, state: State, error: str | None = None) -> None:
        """Set the final state, unless the job has one."""
        with self._changing:
            if self.over:
                return
            self.error, self.ended = error, time.time()
            if state != "done":
                self.shown = {}
            self.work = None
            self.state = state
        self.ring()

    def tell(self, **news: Any) -> None:
        """Report values to the watchers."""
        self.news = {**self.news, **news}  # a new dict, as another thread may be reading the old one
        self.ring()

    def show(self, number: int, picture: bytes, **news: Any) -> None:
        """Show a picture to the watchers, and report values."""
        with self._changing:
            if self.over:  # nobody will look
                return
            self.shown = {**self.shown, number: picture}
        self.tell(**news)

    def ring(self) -> None:
        """Wake the watchers."""
        for listener in list(self._listeners):
            listener()

    def snapshot(self) -> dict[str, Any]:
        """The job's state in values that JSON takes."""
        now = self.ended or time.time()
        return {
            "id": self.id,
            "state": self.state,
            "position": self.position if self.state == "waiting" else 0,
            "stopping": self._wish == "stop",
            "seconds": round(now - self.started, 1) if self.started else 0,
            "shown": sorted(self.shown),
            "error": self.error,
            **self.about,
            **self.news,
        }

    async def follow(self) -> AsyncIterator[dict[str, Any] | None]:
        """Give a snapshot at each change, the last one when the job is over; None in between is a sign of life."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def listener() -> None:
            loop.call_soon_threadsafe(changed.set)

        self._listeners.add(listener)
        try:
            while True:
                changed.clear()
                snapshot = self.snapshot()
                yield snapshot
                if snapshot["state"] in ("done", "failed", "canceled"):
                    return
                await asyncio.sleep(_BREATH)
                while not await _happens(changed, _HEARTBEAT):
                    yield None
        finally:
            self._listeners.discard(listener)


async def _happens(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, at most this long; give whether it happened."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except asyncio.TimeoutError:
        return False
    return True
