"""The work of `refiner.batch` on a Ray cluster: actors that load the model once and take photo after photo."""

from __future__ import annotations

import importlib.util
import logging
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from refiner.batch.worker import Phrase, Worker
from refiner.devices import pick_devices
from refiner.errors import InputError, ModelError, Option, first_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from refiner.batch.work import Work
    from refiner.batch.worker import Fill
    from refiner.images.pairs import Pair


_RETRIES = 3  # of a worker that died, and of its photo
_START_SECONDS = 600


class _Actor:
    """A `Worker` in a process of its own; the device is picked where it runs."""

    def __init__(self, work: Work, device: str, share: float, phrase: Phrase) -> None:
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
    """Workers of a Ray cluster; a context in which photos can be filled.

    Where a worker dies, Ray starts it again and gives it its photo again, a few times. This package must be there on
    every machine of the cluster, and the paths of photos, masks and results too.

    Args:
        work: what to do, with absolute paths.
        device: of each worker, as `pick_devices` takes it.
        phrase: how messages are put into the report.
        address: of a running cluster, `auto` for the one this machine belongs to; None starts one here.
        workers: actors; by default as many as GPUs allow, or one for each machine where `gpus_per_worker` is 0.
        gpus_per_worker: GPUs that each takes; a fraction shares one.

    Raises:
        InputError: Ray is not installed, the cluster cannot be reached or has not enough GPUs.
        ModelError: the workers cannot load the model.
    """
    if importlib.util.find_spec("ray") is None:
        raise InputError('Ray is not installed; pip install "refiner[ray]".')
    import ray  # noqa: PLC0415  an extra, and slow to import

    try:
        # A cluster that runs already has its dashboard or has none.
        dashboard: Any = {} if address else {"include_dashboard": False}
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **dashboard)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"Ray: no cluster at {address or 'this machine'} ({first_line(error)}).") from error
    try:
        listed: Any = ray.nodes  # has no types
        nodes = [node["Resources"] for node in listed() if node["Alive"]]
        count, cpus = shares(nodes, workers, gpus_per_worker)
        kind = ray.remote(num_cpus=cpus, num_gpus=gpus_per_worker, max_restarts=_RETRIES, max_task_retries=_RETRIES)(
            _Actor
        )
        share = min(gpus_per_worker or 1 / math.ceil(count / len(nodes)), 1)
        actors = _started([kind.remote(work, device, share, phrase) for _ in range(count)])
        yield lambda pairs: _share_out(actors, pairs, work)
    finally:
        ray.shutdown()


def _started(actors: list[Any]) -> list[Any]:
    """Wait for actors to have their models."""
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


def shares(nodes: Sequence[Mapping[str, float]], workers: int | None, gpus: float) -> tuple[int, int]:
    """How many workers there are to be, and how many CPUs each takes so that all of them find a place.

    Args:
        nodes: resources of each machine, `CPU` and `GPU`.
        workers: how many; None for as many as GPUs allow, or one for each machine where they take none.
        gpus: that each takes.

    Raises:
        InputError: there are not enough GPUs.
    """
    by_gpu = sum(int(node.get("GPU", 0) / gpus + 1e-9) for node in nodes) if gpus else 0
    if gpus and (by_gpu == 0 or (workers or 0) > by_gpu):
        raise InputError(Option("gpus_per_worker", f"{gpus:g}"), f": the cluster has GPUs for {by_gpu} workers.")
    count = workers or by_gpu or len(nodes)
    most = max(int(node.get("CPU", 0)) for node in nodes)
    for cpus in range(most, 1, -1):
        if sum(int(node.get("CPU", 0)) // cpus for node in nodes) >= count:
            return count, cpus
    return min(count, max(sum(int(node.get("CPU", 0)) for node in nodes), 1)), 1


def _share_out(actors: list[Any], pairs: Sequence[Pair], work: Work) -> Iterator[dict[str, Any]]:
    """Give each actor a photo, and the next one when it is done."""
    import ray  # noqa: PLC0415  as above

    waiting = list(reversed(pairs))
    running: dict[Any, tuple[Any, Pair]] = {}

    def give(actor: Any) -> None:
        if waiting:
            pair = waiting.pop()
            running[actor.fill.remote(pair)] = actor, pair

    for actor in actors:
        give(actor)
    while running:
        (done,), _ = ray.wait(list(running), num_returns=1)
        actor, pair = running.pop(done)
        try:
            yield ray.get(done)
        except ray.exceptions.RayError as error:
            yield _failed(work, pair, f"its worker died ({_last_line(error)}).")
            if isinstance(error, ray.exceptions.RayActorError):
                continue  # it died on this photo each time, and stays dead: others can take the rest
        give(actor)
    for pair in waiting:
        yield _failed(work, pair, "no worker is left.")


def _failed(work: Work, pair: Pair, error: str) -> dict[str, Any]:
    return work.row(pair, status="failed", seconds=0.0, error=error)


def _last_line(error: BaseException) -> str:
    """The last line of what a worker raised, which names it."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip().rstrip(".") if lines else type(error).__name__
