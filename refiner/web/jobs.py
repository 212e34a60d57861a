"""Jobs, run in the order they came, one at a time on each device; a job tells its watchers of every change."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from refiner.engine.optimize import StopRefinement
from refiner.errors import RefinerError
from refiner.web.problems import NOT_FOUND, TOO_MANY, Problem, in_words
from refiner.web.records import new_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from refiner.web.limits import Limits

State = Literal["waiting", "working", "done", "failed", "canceled"]

_HEARTBEAT = 15.0  # seconds between signs of life to a watcher, so that no proxy hangs up
_BREATH = 0.05  # seconds between snapshots; some work reports hundreds of times a second
_REMEMBERED = 200  # ended jobs that are kept
_log = logging.getLogger(__name__)


class Canceled(Exception):  # noqa: N818  not an error: it was asked for
    """Raised in a callback to end a job's work without a result."""


@dataclass(eq=False)
class Job:
    """Work for one visitor.

    Attributes:
        owner: the visitor.
        device: where it runs; each device has its own queue.
        work: called once with the job, in the device's thread; gives the result.
        about: what the job is for, in values that JSON takes.
        id: names the job in requests.
        state: how far it is.
        news: what the work has reported, in values that JSON takes.
        shown: pictures of the work so far, PNG, by number.
        result: what `work` gave.
        error: why it failed, in one line.
    """

    owner: str
    device: str
    work: Callable[[Job], Any]
    about: dict[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=new_id)
    state: State = "waiting"
    news: dict[str, Any] = field(default_factory=dict)
    shown: dict[int, bytes] = field(default_factory=dict)
    result: Any = None
    error: str | None = None
    position: int = 0
    created: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    _wish: Literal["stop", "cancel"] | None = None
    _listeners: set[Callable[[], object]] = field(default_factory=set)

    @property
    def over(self) -> bool:
        """Whether the job has ended."""
        return self.state in ("done", "failed", "canceled")

    def check(self) -> None:
        """Called between predictions: ends the work where that was asked for.

        Raises:
            StopRefinement: the job is to end with its best result so far.
            Canceled: the job is to end without a result.
        """
        if self._wish == "cancel":
            raise Canceled
        if self._wish == "stop":
            raise StopRefinement

    def tell(self, **news: Any) -> None:
        """Report values to the watchers."""
        self.news = {**self.news, **news}  # a new dict, as another thread may be reading the old one
        self.ring()

    def show(self, number: int, picture: bytes, **news: Any) -> None:
        """Show a picture to the watchers, and report values."""
        self.shown = {**self.shown, number: picture}
        self.tell(**news)

    def ring(self) -> None:
        """Wake the watchers."""
        for listener in list(self._listeners):
            listener()

    def wish(self, what: Literal["stop", "cancel"]) -> None:
        """Ask the work to end, which it does within one prediction."""
        if self._wish != "cancel":
            self._wish = what

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


class Queue:
    """Jobs that wait, run, or have ended lately.

    Args:
        limits: on how many jobs may wait or run.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._changed = threading.Condition(threading.RLock())
        self._jobs: dict[str, Job] = {}
        self._waiting: dict[str, list[Job]] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._closed = False

    def add(self, job: Job) -> Job:
        """Put a job at the end of its device's queue.

        Raises:
            Problem: too many jobs wait, of this visitor or of all, or the server is about to end.
        """
        with self._changed:
            ahead = [other for other in self._jobs.values() if not other.over]
            own = sum(other.owner == job.owner for other in ahead)
            if own >= self._limits.jobs_each:
                raise Problem(TOO_MANY, f"{own} jobs of yours are waiting already; let one end first.")
            if len(ahead) >= self._limits.jobs:
                raise Problem(TOO_MANY, f"{len(ahead)} jobs are waiting already; try again later.")
            if self._closed:
                raise Problem(TOO_MANY, "The server is about to end.")
            self._jobs[job.id] = job
            self._waiting.setdefault(job.device, []).append(job)
            if job.device not in self._threads:
                name = f"refiner {job.device}"
                thread = threading.Thread(target=self._run, args=(job.device,), name=name, daemon=True)
                self._threads[job.device] = thread
                thread.start()
            self._forget_old()
            self._renumber()
        return job

    def get(self, name: str, owner: str) -> Job:
        """A visitor's job.

        Raises:
            Problem: there is no job of this id, or it is another visitor's.
        """
        with self._changed:
            job = self._jobs.get(name)
        if job is None or job.owner != owner:
            raise Problem(NOT_FOUND, "There is no such job here (any more).")
        return job

    def of(self, **about: Any) -> list[Job]:
        """Jobs that are not over and have these values in `about`, in the order they came."""
        with self._changed:
            jobs = [job for job in self._jobs.values() if not job.over]
        return [job for job in jobs if about.items() <= job.about.items()]

    def stop(self, job: Job) -> None:
        """End a job with its best result so far; a job that still waits has none and is canceled."""
        if not self._drop_waiting(job):
            job.wish("stop")
            job.ring()

    def cancel(self, job: Job) -> None:
        """End a job without a result."""
        if not self._drop_waiting(job):
            job.wish("cancel")
            job.ring()

    def cancel_all(self) -> None:
        """Cancel every job, and take no more."""
        with self._changed:
            self._closed = True
            jobs = [job for job in self._jobs.values() if not job.over]
        for job in jobs:
            self.cancel(job)
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Cancel every job, and wait for those that run, 10 seconds for each device at most."""
        self.cancel_all()
        for thread in list(self._threads.values()):
            thread.join(timeout=10)

    def _drop_waiting(self, job: Job) -> bool:
        with self._changed:
            if job not in self._waiting.get(job.device, []):
                return job.over
            self._waiting[job.device].remove(job)
            _end(job, "canceled")
            self._renumber()
        return True

    def _renumber(self) -> None:
        for device, waiting in self._waiting.items():
            running = any(job.device == device and job.state == "working" for job in self._jobs.values())
            for place, job in enumerate(waiting, start=int(running)):
                if job.position != place:
                    job.position = place
                    job.ring()
        self._changed.notify_all()

    def _forget_old(self) -> None:
        over = [name for name, job in self._jobs.items() if job.over]
        for name in over[:-_REMEMBERED]:
            del self._jobs[name]

    def _run(self, device: str) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting[device])
                if self._closed:
                    return
                job = self._waiting[device].pop(0)
                job.state, job.started = "working", time.time()
                self._renumber()
            job.ring()
            _do(job)
            with self._changed:
                self._renumber()


async def _happens(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, at most this long; give whether it happened."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except asyncio.TimeoutError:
        return False
    return True


def _do(job: Job) -> None:
    """Run a job's work, and set its final state."""
    try:
        job.result = job.work(job)
    except (Canceled, StopRefinement):
        _end(job, "canceled")
    except Problem as error:
        job.error = error.line
        _end(job, "failed")
    except RefinerError as error:
        job.error = in_words(error)
        _end(job, "failed")
    except Exception:  # noqa: BLE001  whatever a model raises, the next job must run
        _log.exception("job %s", job.id)
        job.error = "The work failed; the server's log says why."
        _end(job, "failed")
    else:
        _end(job, "done")


def _end(job: Job, state: State) -> None:
    job.state, job.ended = state, time.time()
    if state != "done":
        job.shown = {}
    job.ring()
