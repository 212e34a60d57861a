"""The line of jobs for each device: one runs at a time, and visitors take turns."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from refiner.engine.optimize import StopRefinement
from refiner.errors import RefinerError
from refiner.interruption import interrupted_by
from refiner.web.jobs import Canceled
from refiner.web.problems import NOT_FOUND, TOO_MANY, Problem, problem_of

if TYPE_CHECKING:
    from refiner.web.jobs import Job
    from refiner.web.limits import Limits

_REMEMBERED = 200  # ended jobs whose state is kept
_PICTURED = 5  # of them, those whose pictures are kept, for a page that is about to fetch the last one
_log = logging.getLogger(__name__)


class Queue:
    """Jobs that wait, run, or have ended lately.

    A visitor's first job gets the turn that is on now, the second one the next, and so on. So somebody's many jobs do
    not stand before another's first.

    Args:
        limits: on how many jobs may wait or run.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._changed = threading.Condition()
        self._jobs: dict[str, Job] = {}
        self._waiting: dict[str, list[Job]] = {}  # in the order of their turns
        self._latest: dict[str, Job] = {}  # by device, the job that runs, or ran last
        self._threads: dict[str, threading.Thread] = {}
        self._closed = False

    def add(self, job: Job) -> Job:
        """Put a job into its device's line.

        Raises:
            Problem: too many jobs are waiting.
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
            for other in ahead:
                if other.gives_way and other.device == job.device:
                    self._leaves_line(other)
                    other.cancel()
            self._jobs[job.id] = job
            waiting = self._waiting.setdefault(job.device, [])
            job.turn = self._next_turn(job)
            waiting.append(job)
            waiting.sort(key=lambda each: each.turn)  # among equals, the order they came in stays
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
        if self._leaves_line(job):
            job.cancel()
        else:
            job.stop()

    def cancel(self, job: Job) -> None:
        """End a job without a result, at once."""
        self._leaves_line(job)
        job.cancel()
        with self._changed:
            self._renumber()

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

    def _next_turn(self, job: Job) -> int:
        latest = self._latest.get(job.device)
        now = 0 if latest is None else latest.turn
        same = [other for other in [latest, *self._waiting[job.device]] if other is not None]
        own = [other.turn for other in same if other.owner == job.owner]
        return max([now, *(turn + 1 for turn in own)])

    def _leaves_line(self, job: Job) -> bool:
        """Take a job out of the line; gives whether it stood there."""
        with self._changed:
            if job not in self._waiting.get(job.device, []):
                return False
            self._waiting[job.device].remove(job)
            self._renumber()
        return True

    def _renumber(self) -> None:
        for device, waiting in self._waiting.items():
            latest = self._latest.get(device)
            for place, job in enumerate(waiting, start=int(latest is not None and not latest.over)):
                if job.position != place:
                    job.position = place
                    job.ring()
        self._changed.notify_all()

    def _forget_old(self) -> None:
        over = [job for job in self._jobs.values() if job.over]
        for job in over[:-_PICTURED]:
            job.shown = {}
        for job in over[:-_REMEMBERED]:
            del self._jobs[job.id]

    def _run(self, device: str) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting[device])
                if self._closed:
                    return
                job = self._latest[device] = self._waiting[device].pop(0)
                job.state, job.started = "working", time.time()
                self._renumber()
            job.ring()
            _do(job)
            with self._changed:
                self._forget_old()
                self._renumber()
            del job  # else the last one would be kept until the next comes


def _do(job: Job) -> None:
    """Run a job's work, and set its final state."""
    work = job.work
    if work is None:  # canceled meanwhile
        return
    try:
        with interrupted_by(job.check):
            work(job)
    except (Canceled, StopRefinement):
        job.end("canceled")
    except (Problem, RefinerError, OSError) as error:
        job.end("failed", problem_of(error).line)
    except Exception:  # noqa: BLE001  whatever a model raises, the next job must run
        _log.exception("job %s", job.id)
        job.end("failed", "The work failed; the server's log says why.")
    else:
        job.end("done")
