"""A batch on a Ray cluster: each worker is an actor, which loads the model once and fills photo after photo."""

from __future__ import annotations

import importlib.util
import logging
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from refiner.batch.worker import Phrase, Worker
from refiner.devices import pick_devices
from refiner.errors import InputError, ModelError, Option, first_line
from refiner.memory import manage_allocator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from refiner.batch.work import Work
    from refiner.batch.worker import Fill
    from refiner.images.pairs import Pair


_RETRIES = 3  # how often a worker that died is started again, and its photo tried again
_START_SECONDS = 600  # that workers may take to load their models


class _Actor:
    """A `Worker` in a process of its own, which picks a device of the machine it runs on."""

    def __init__(self, work: Work, device: str, share: float, phrase: Phrase) -> None:
        manage_allocator()
        self._worker = Worker(work, pick_devices(device), share=share, phrase=phrase)

    def ready(self) -> bool:
        return True

    def fill(self, pair: Pair) -> dict[str, Any]:
        return self._worker(pair)


@contextmanager
def ray_workers(
    work: Work,
    device: str,
    *,
    phrase: Phrase = str,
    address: str | None = None,
    workers: int | None = None,
    gpus_per_worker: float = 0,
) -> Iterator[Fill]:
    """Start workers on a Ray cluster; the context gives what fills photos with them.

    Where a worker dies, Ray starts it again with its photo, a few times. On every machine of the cluster this package
    must be installed, and photos, masks and results must have the same paths.

    Args:
        work: what to do, with absolute paths.
        device: where each worker computes, as `pick_devices` takes it.
        phrase: turns messages into text.
        address: of a running cluster, `auto` for the one that this machine belongs to; None starts one on this machine.
        workers: how many; by default as many as there are GPUs for, or one on each machine where they take no GPUs.
        gpus_per_worker: how many GPUs each worker takes; with a fraction, several share one.

    Raises:
        InputError: Ray is not installed, or the cluster cannot be reached or has too few GPUs.
        ModelError: the workers cannot load the model.
    """
    if importlib.util.find_spec("ray") is None:
        raise InputError('Ray is not installed; pip install "refiner-inpainting[ray]".')
    import ray  # noqa: PLC0415  an extra, and slow to import

    try:
        # Of a cluster that is running, the dashboard is not ours to decide.
        dashboard: Any = {} if address else {"include_dashboard": False}
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **dashboard)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"Ray: no cluster at {address or 'this machine'} ({first_line(error)}).") from error
    try:
        listed: Any = ray.nodes  # has no types
        nodes = [node["Resources"] for node in listed() if node["Alive"]]
        count, cpus = workers_and_cpus(nodes, workers, gpus_per_worker)
        kind = ray.remote(num_cpus=cpus, num_gpus=gpus_per_worker, max_restarts=_RETRIES, max_task_retries=_RETRIES)(
            _Actor
        )
        share = min(gpus_per_worker or 1 / math.ceil(count / len(nodes)), 1)
        actors = _started([kind.remote(work, device, share, phrase) for _ in range(count)])
        yield lambda pairs: _filled(actors, pairs, work)
    finally:
        ray.shutdown()


def _started(actors: list[Any]) -> list[Any]:
    """The same actors, once all have loaded their models."""
    import ray  # noqa: PLC0415  as above

    waiting = [actor.ready.remote() for actor in actors]
    try:
        ready, late = ray.wait(waiting, num_returns=len(waiting), timeout=_START_SECONDS)
        ray.get(ready)
    except ray.exceptions.RayError as error:
        raise ModelError(f"Ray: the workers cannot start ({_last_line(error)}).") from error
    if late:
        raise InputError(
            f"Ray: {len(late)} of {len(actors)} workers did not start within {_START_SECONDS} s; is the cluster "
            "busy? Give fewer ",
            Option("workers"),
            ".",
        )
    return actors


def workers_and_cpus(
    nodes: Sequence[Mapping[str, float]], workers: int | None, gpus_per_worker: float
) -> tuple[int, int]:
    """How many workers to start, and the most CPUs that each can have so that the machines hold all of them.

    Args:
        nodes: each machine's `CPU` and `GPU`, as numbers.
        workers: how many were asked for, see `ray_workers`. Where there are fewer CPUs, there is one for each CPU.
        gpus_per_worker: how many GPUs each takes.

    Raises:
        InputError: there are too few GPUs.
    """
    by_gpu = sum(int(node.get("GPU", 0) / gpus_per_worker + 1e-9) for node in nodes) if gpus_per_worker else 0
    if gpus_per_worker and (by_gpu == 0 or (workers or 0) > by_gpu):
        raise InputError(
            Option("gpus_per_worker", f"{gpus_per_worker:g}"), f": the cluster has GPUs for {by_gpu} workers."
        )
    count = workers or by_gpu or len(nodes)
    most = max(int(node.get("CPU", 0)) for node in nodes)
    for cpus in range(most, 1, -1):
        if sum(int(node.get("CPU", 0)) // cpus for node in nodes) >= count:
            return count, cpus
    return min(count, max(sum(int(node.get("CPU", 0)) for node in nodes), 1)), 1


def _filled(actors: list[Any], pairs: Sequence[Pair], work: Work) -> Iterator[dict[str, Any]]:
    """Give each actor a photo, and the next one as soon as that is done; yields the lines of the report."""
    import ray  # noqa: PLC0415  as above

    waiting = list(reversed(pairs))
    running: dict[Any, tuple[Any, Pair]] = {}

    def give_next(actor: Any) -> None:
        if waiting:
            pair = waiting.pop()
            running[actor.fill.remote(pair)] = actor, pair

    for actor in actors:
        give_next(actor)
    while running:
        (done,), _ = ray.wait(list(running), num_returns=1)
        actor, pair = running.pop(done)
        try:
            yield ray.get(done)
        except ray.exceptions.RayError as error:
            yield _failed(work, pair, f"its worker died ({_last_line(error)}).")
            if isinstance(error, ray.exceptions.RayActorError):
                continue  # it died at every try and is not started again; the other actors take what is left
        give_next(actor)
    for pair in waiting:
        yield _failed(work, pair, "no worker is left.")


def _failed(work: Work, pair: Pair, error: str) -> dict[str, Any]:
    return work.row(pair, status="failed", seconds=0.0, error=error)


def _last_line(error: BaseException) -> str:
    """The line of a worker's error that says what went wrong: the last one, below Ray's traceback."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip().rstrip(".") if lines else type(error).__name__
