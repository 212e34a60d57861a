"""Who is served when, and how soon a job ends that is to end."""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext

import pytest

from refiner.interruption import breathe, stoppable
from refiner.web.jobs import Canceled, Job
from refiner.web.limits import Limits
from refiner.web.problems import Problem
from refiner.web.queues import Queue


class Line:
    """A queue whose jobs wait for a word to end; notes who was served."""

    def __init__(self) -> None:
        self.queue = Queue(Limits())
        self.served: list[str] = []
        self.gate = threading.Semaphore(0)

    def add(self, name: str) -> Job:
        def work(_: Job) -> None:
            self.served.append(name)
            assert self.gate.acquire(timeout=20)

        return self.queue.add(Job(name[0], "cpu", work))

    def until(self, count: int) -> None:
        end = time.monotonic() + 20
        while len(self.served) < count:
            assert time.monotonic() < end
            time.sleep(0.005)


@pytest.fixture
def line():
    line = Line()
    yield line
    for _ in range(50):
        line.gate.release()
    line.queue.close()


def test_visitors_take_turns(line) -> None:
    jobs = {name: line.add(name) for name in ("a1",)}
    line.until(1)
    jobs |= {name: line.add(name) for name in ("a2", "a3", "a4", "b1", "b2", "c1")}
    assert [jobs[name].position for name in ("b1", "c1", "a2", "b2", "a3", "a4")] == [1, 2, 3, 4, 5, 6]
    for count in range(2, 8):
        line.gate.release()
        line.until(count)
    assert line.served == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]


def test_the_warm_up_gives_way_to_whoever_comes(line) -> None:
    noticed = threading.Event()

    def warm_up(job: Job) -> None:
        line.served.append("warm-up")
        while not noticed.is_set():
            time.sleep(0.005)
        job.check()
        line.served.append("not canceled")

    warm = line.queue.add(Job("", "cpu", warm_up, gives_way=True))
    line.until(1)
    job = line.add("a1")
    assert (warm.state, job.position) == ("canceled", 0)  # nobody is before the visitor
    noticed.set()
    line.until(2)
    assert line.served == ["warm-up", "a1"]


def test_a_warm_up_that_has_not_begun_gives_way_too(line) -> None:
    line.add("a1")
    line.until(1)
    warm = line.queue.add(Job("", "cpu", lambda _: line.served.append("warm-up"), gives_way=True))
    line.add("b1")
    line.gate.release()
    line.until(2)
    assert (line.served, warm.state) == (["a1", "b1"], "canceled")


def test_who_gave_up_waiting_has_no_longer_way_back(line) -> None:
    line.add("a1")
    line.until(1)
    for job in [line.add(f"a{number}") for number in range(2, 9)]:
        line.queue.cancel(job)
    line.add("b1"), line.add("b2"), line.add("a9")
    for count in range(2, 5):
        line.gate.release()
        line.until(count)
    assert line.served[:2] == ["a1", "b1"]
    assert set(line.served[2:]) == {"a9", "b2"}


def test_a_canceled_job_is_over_at_once_and_leaves_nothing(line) -> None:
    """However long the step is that its work is in."""
    noticed = []

    def work(job: Job) -> None:
        line.served.append("x")
        assert line.gate.acquire(timeout=20)
        try:
            job.commit()
        except Canceled:
            noticed.append(1)
            raise

    job = line.queue.add(Job("a", "cpu", work))
    line.until(1)
    after = line.add("b1")
    started = time.monotonic()
    line.queue.cancel(job)
    assert (job.state, time.monotonic() - started < 0.2) == ("canceled", True)
    assert after.position == 0
    line.gate.release()
    line.until(2)
    assert noticed == [1]
    assert job.state == "canceled"
    assert line.served == ["x", "b1"]


@pytest.mark.parametrize(("wish", "can_stop"), [("cancel", False), ("cancel", True), ("stop", True)])
def test_work_is_ended_within_a_step(line, wish, can_stop) -> None:
    ended = []

    def work(_: Job) -> None:
        line.served.append("x")
        try:
            with stoppable() if can_stop else nullcontext():
                while True:
                    breathe()
                    time.sleep(0.001)
        finally:
            ended.append(1)

    job = line.queue.add(Job("a", "cpu", work))
    line.until(1)
    getattr(line.queue, wish)(job)
    end = time.monotonic() + 10
    while not (ended and job.over) and time.monotonic() < end:
        time.sleep(0.005)
    assert (ended, job.state) == ([1], "canceled")  # such work has nothing to keep


def test_what_is_being_kept_is_not_canceled(line) -> None:
    def work(job: Job) -> None:
        job.commit()
        line.served.append("x")
        assert line.gate.acquire(timeout=20)

    job = line.queue.add(Job("a", "cpu", work))
    line.until(1)
    line.queue.cancel(job)
    assert job.state == "working"
    line.gate.release()
    end = time.monotonic() + 10
    while not job.over and time.monotonic() < end:
        time.sleep(0.005)
    assert job.state == "done"


def test_limits_count_those_who_wait(line) -> None:
    line.queue._limits = Limits(jobs=3, jobs_each=2)
    line.add("a1"), line.add("a2")
    with pytest.raises(Problem, match="2 jobs of yours"):
        line.add("a3")
    line.add("b1")
    with pytest.raises(Problem, match="3 jobs are waiting"):
        line.add("c1")
