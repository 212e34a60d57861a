"""One photo of a batch after the other: none of them stops the rest."""

from __future__ import annotations

import time
import warnings
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from refiner.devices import pick_devices
from refiner.engine.plan import memory_for
from refiner.errors import Message, RefinerError, RefinerWarning
from refiner.files import make_folder, write_atomic
from refiner.images.writing import takes_quality
from refiner.memory import Peak
from refiner.models.registry import load_model
from refiner.photo import read_photo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch

    from refiner.batch.work import Work
    from refiner.images.pairs import Pair
    from refiner.models.inpainter import Inpainter

Fill: TypeAlias = "Callable[[Sequence[Pair]], Iterator[dict[str, Any]]]"
"""Photos to their lines of the report, as they are done."""

Phrase: TypeAlias = "Callable[[Message], str]"
"""How messages are put into the report; a function that can be sent to other processes."""


class Worker:
    """Fills one photo after the other; loads the model once.

    Args:
        work: what to do.
        devices: where to compute.
        share: of the free memory that is this worker's, where others work on the same machine.
        phrase: how messages are put into the report.

    Raises:
        ModelError: the model cannot be had.
    """

    def __init__(
        self, work: Work, devices: tuple[torch.device, ...], *, share: float = 1, phrase: Phrase = str
    ) -> None:
        self._work, self._devices, self._phrase = work, devices, phrase
        self._settings = work.settings
        if share < 1 and work.settings.memory is None:
            self._settings = replace(work.settings, memory=str(memory_for(devices, share)))
        self._model: Inpainter = load_model(work.model, weights=work.weights)

    def __call__(self, pair: Pair) -> dict[str, Any]:
        """Fill one photo and write the result; gives its line of the report. Only an interrupt gets through."""
        row = self._work.row(pair, status="ok")
        start = time.perf_counter()
        try:
            with Peak(self._devices[0]) as peak:
                row |= self._fill(pair)
            row["peak_memory"] = peak.bytes
        except RefinerError as error:
            row |= {"status": "failed", "error": self._phrase(error.message)}
        except Exception as error:  # noqa: BLE001  one photo must not stop the rest, whatever it brings about
            row |= {"status": "failed", "error": f"{type(error).__name__}: {error}"}
        row["seconds"] = round(time.perf_counter() - start, 3)
        return row

    def _fill(self, pair: Pair) -> dict[str, Any]:
        work, target = self._work, self._work.target(pair)
        photo = read_photo(pair.image, pair.mask, work.mask_options)
        photo.check_fits(target)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", RefinerWarning)
            result = photo.inpaint(self._model, self._settings, self._devices)
        make_folder(target.parent)
        quality = work.quality if takes_quality(target) else None  # a folder may hold both kinds
        write_atomic({target: result.encode(target, quality=quality)})
        notes = [] if photo.hole.warning is None else [self._phrase(photo.hole.warning)]
        notes += photo.losses_in(target, quality)
        notes += [str(warning.message) for warning in told if issubclass(warning.category, RefinerWarning)]
        return {
            "model": work.model,
            # Those of the whole batch: the share of memory is another on each machine.
            **replace(result, settings=work.settings).to_dict(),
            **({"notes": notes} if notes else {}),
        }


@contextmanager
def local_worker(work: Work, device: str, *, phrase: Phrase = str) -> Iterator[Fill]:
    """One worker in this process; a context in which photos can be filled.

    Args:
        work: what to do.
        device: where to compute, as `pick_devices` takes it.
        phrase: how messages are put into the report.

    Raises:
        ModelError: the model cannot be had.
    """
    worker = Worker(work, pick_devices(device), phrase=phrase)
    yield lambda pairs: map(worker, pairs)
