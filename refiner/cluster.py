"""The work of `refiner.batch` on a Ray cluster: actors that load the model once and take one photo after the other."""

from __future__ import annotations

import importlib.util
import logging
from typing import TYPE_CHECKING, Any

from refiner.batch import Worker
from refiner.devices import pick_devices
from refiner.errors import InputError, ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from refiner.batch import Work
    from refiner.pairs import Pair


class _Actor:
    """A `Worker` in a process of its own; the device is picked where it runs."""

    def __init__(self, work: Work, device: str) -> None:
        self._worker = Worker(work, pick_devices(device))

    def ready(self) -> bool:
        return True

    def fill(self, pair: Pair) -> dict[str, Any]:
        return self._worker(pair)


def run_on_ray(
    work: Work,
    pairs: Sequence[Pair],
    *,
    address: str | None = None,
    workers: int | None = None,
    gpus_per_worker: float = 0,
    device: str = "auto",
) -> Iterator[dict[str, Any]]:
    """Fill photos on a Ray cluster; gives each one's line of the report as it is done.

    Where a worker dies, Ray starts it again and gives it its photo again. This package and the paths of photos, masks
    and results must be there on every machine of the cluster.

    Args:
        work: what to do.
        pairs: the photos.
        address: of a running cluster, `auto` for the one this machine belongs to; None starts one here.
        workers: actors; by default as many as GPUs allow, or one for each machine where `gpus_per_worker` is 0.
        gpus_per_worker: GPUs that each takes; a fraction shares one.
        device: of each worker, as `pick_devices` takes it.

    Raises:
        InputError: Ray is not installed or the cluster cannot be reached.
        ModelError: the workers cannot load the model.
    """
    if importlib.util.find_spec("ray") is None:
        raise InputError('--ray: Ray is not installed; pip install "refiner[ray]".')
    import ray  # noqa: PLC0415  an extra, and slow to import

    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"--ray: no cluster at {address or 'this machine'} ({_first_line(error)}).") from error
    try:
        cluster: Any = ray  # whose functions are not all typed
        resources = cluster.cluster_resources()
        if workers is None:
            by_gpu = int(resources.get("GPU", 0) / gpus_per_worker) if gpus_per_worker else 0
            workers = by_gpu or len(cluster.nodes())
        workers = max(min(workers, len(pairs)), 1)
        cpus = max(int(resources.get("CPU", 1)) // workers, 1)
        remote: Any = ray.remote(num_cpus=cpus, num_gpus=gpus_per_worker, max_restarts=-1, max_task_retries=-1)(_Actor)
        actors = [remote.remote(work, device) for _ in range(workers)]
        try:
            ray.get([actor.ready.remote() for actor in actors])
        except ray.exceptions.RayError as error:
            raise ModelError(f"--ray: the workers cannot start ({_cause(error)}).") from error
        yield from _share_out(actors, pairs)
    finally:
        ray.shutdown()


def _share_out(actors: list[Any], pairs: Sequence[Pair]) -> Iterator[dict[str, Any]]:
    """Give each actor a photo, and the next one when it is done."""
    import ray  # noqa: PLC0415  as above

    waiting = list(reversed(pairs))
    running: dict[Any, Any] = {}
    for actor in actors:
        if waiting:
            running[actor.fill.remote(waiting.pop())] = actor
    while running:
        (done,), _ = ray.wait(list(running), num_returns=1)
        actor = running.pop(done)
        yield ray.get(done)
        if waiting:
            running[actor.fill.remote(waiting.pop())] = actor


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _cause(error: BaseException) -> str:
    """The last line of what a worker raised, which names it."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip().rstrip(".") if lines else type(error).__name__
