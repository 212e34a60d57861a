"""Fills the photos of a batch one after the other; a photo that fails does not stop the rest."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from refiner.batch.origin import Origins
from refiner.devices import pick_devices
from refiner.engine.plan import memory_for
from refiner.errors import Message, RefinerError
from refiner.files import make_folder, write_atomic
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
"""Fills photos, and gives each one's line of the report as soon as the photo is done."""

Phrase: TypeAlias = "Callable[[Message], str]"
"""Turns a message into the text for the report; a function that can be sent to other processes."""


class Worker:
    """Loads the model once, then fills one photo at each call.

    Args:
        work: what to do.
        devices: where to compute.
        share: how much of the free memory this worker may take, 0 to 1, where several work on one machine.
        phrase: turns messages into text.

    Raises:
        ModelError: the model cannot be loaded.
    """

    def __init__(
        self, work: Work, devices: tuple[torch.device, ...], *, share: float = 1, phrase: Phrase = str
    ) -> None:
        self._work, self._devices, self._phrase = work, devices, phrase
        self._settings = work.settings
        if share < 1 and work.settings.memory is None:
            self._settings = replace(work.settings, memory=str(memory_for(devices, share)))
        self._origins = Origins(work)  # before the model is read, in case its file is replaced meanwhile
        self._model: Inpainter = load_model(work.model, weights=work.weights)

    def __call__(self, pair: Pair) -> dict[str, Any]:
        """Fill one photo, write the result, and give its line of the report.

        Every error ends up in the line; only an interrupt is raised.
        """
        row = self._work.row(pair, status="ok")
        start = time.perf_counter()
        try:
            with Peak(self._devices[0]) as peak:
                row |= self._fill(pair)
            row["peak_memory"] = peak.bytes
        except RefinerError as error:
            row |= {"status": "failed", "error": self._phrase(error.message)}
        except Exception as error:  # noqa: BLE001  one photo must not stop the rest, whatever it raises
            row |= {"status": "failed", "error": f"{type(error).__name__}: {error}"}
        row["seconds"] = round(time.perf_counter() - start, 3)
        return row

    def _fill(self, pair: Pair) -> dict[str, Any]:
        work, target = self._work, self._work.target(pair)
        origin = self._origins.of(pair)  # before the files are read: if they change meanwhile, the line tells
        photo = read_photo(pair.image, pair.mask, work.mask_options, work.page)
        photo.check_fits(target)
        result = photo.inpaint(self._model, self._settings, self._devices)
        make_folder(target.parent)
        quality = work.quality_of(target)
        write_atomic({target: result.encode(target, quality=quality)})
        notes = [] if photo.hole.warning is None else [self._phrase(photo.hole.warning)]
        notes += photo.losses_in(target, quality)
        notes += result.refinement.warnings
        # The origin's settings are those of the whole batch: this worker's share of the memory is its own matter.
        return {**result.to_dict(), **origin, **({"notes": notes} if notes else {})}


@contextmanager
def local_worker(work: Work, device: str, *, phrase: Phrase = str) -> Iterator[Fill]:
    """Start one worker in this process; the context gives what fills photos with it.

    Args:
        work: what to do.
        device: where to compute, as `pick_devices` takes it.
        phrase: turns messages into text.

    Raises:
        ModelError: the model cannot be loaded.
    """
    worker = Worker(work, pick_devices(device), phrase=phrase)
    yield lambda pairs: map(worker, pairs)
