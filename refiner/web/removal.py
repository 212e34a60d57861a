"""Removals: what a visitor asks for, the plan for it, and the job that does it with the engine."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from refiner.devices import pick_devices
from refiner.engine.optimize import StopRefinement
from refiner.errors import RefinerError
from refiner.images.masks import Hole, MaskOptions, read_mask
from refiner.images.picture import Picture
from refiner.images.reading import read_rgb
from refiner.images.screen import as_png, part_of_mask, resized
from refiner.images.writing import default_suffix
from refiner.memory import trim
from refiner.photo import Photo
from refiner.regions import whole
from refiner.web.callbacks import JobCallbacks, box_in_copy
from refiner.web.jobs import Job
from refiner.web.models import Models
from refiner.web.pace import Pace, cost_of
from refiner.web.parts import part_of, parts_around, put_back
from refiner.web.problems import CONFLICT, TOO_MANY, UNPROCESSABLE, Problem, in_words
from refiner.web.records import Round
from refiner.web.saving import save_result
from refiner.web.variants import copied, faults_of, made_of_copies

if TYPE_CHECKING:
    from collections.abc import Iterator

    from refiner.engine.result import Progress
    from refiner.images.planes import Mask
    from refiner.photo import PhotoResult
    from refiner.regions import Window
    from refiner.web.limits import Limits
    from refiner.web.offer import Choice, Offer
    from refiner.web.records import Record
    from refiner.web.store import Store

_CHOSEN_AT = 80  # short side in pixels of a first look made of copies
_LOOKED = 0.7  # seconds of computing after which such a look is shown as it is
_WARM = 384  # side in pixels of the picture to warm up with, which has two scales
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Removal:
    """A removal that a visitor asks for.

    Attributes:
        parent: number of the round to start from.
        mask: (H,W), as it was drawn.
        grow: pixels to grow the mask by.
        feather: pixels to blend the fill over.
        choice: model, device and settings.
        asked: the words that the choice was made by.
        variant_of: number of the round that this is another fill of; None for the first.
    """

    parent: int
    mask: Mask
    grow: int
    feather: int
    choice: Choice
    asked: dict[str, Any] = field(default_factory=dict)
    variant_of: int | None = None


class Remover:
    """Does removals on the store's photos.

    Args:
        store: holds the photos.
        limits: on the rounds of a photo.
        output: folder where results are also written; None for none.
        pace: predicts how long work takes.
    """

    def __init__(self, store: Store, limits: Limits, output: Path | None = None, pace: Pace | None = None) -> None:
        self._store = store
        self._limits = limits
        self._output = output
        self._pace = pace or Pace()
        self._planning = threading.Lock()
        self._asked: dict[str, object] = {}  # by photo, a mark of the plan that was asked for last
        self.models = Models()

    def plan(self, record: Record, removal: Removal) -> dict[str, Any]:
        """How the work of a removal would be cut, and about how long it would take.

        Raises:
            RefinerError: the removal could not be done.
            Problem: nothing is marked; or another plan was asked for the same photo meanwhile.
        """
        _check_marked(removal)
        asked = self._asked[record.id] = object()
        with self._planning:
            if self._asked.get(record.id) is not asked:
                raise Problem(CONFLICT, "The mask has changed meanwhile.")
            del self._asked[record.id]
            # A plan needs the picture's size, not its pixels.
            blank = Picture(np.broadcast_to(np.zeros(1, np.uint8), (*record.size, 1)))
            photo = Photo(blank, _hole(removal, blank))
            settings, devices = removal.choice.settings, pick_devices(removal.choice.device)
            model = self.models.of(removal.choice)
            parts = [part for _, part in self._parts(photo, removal.choice)]
            plans = [part.plan(model, settings, devices) for part in parts]
        windows = [window for plan in plans for window in plan.windows]
        height, width = max(windows, key=lambda window: window.area).size
        seconds = self._pace.seconds(removal.choice, sum(cost_of(plan, settings) for plan in plans))
        return {
            "windows": len(windows),
            "largest": [width, height],
            "whole": width * height == record.size[0] * record.size[1],
            "bytes": max((plan.bytes for plan in plans if plan.bytes is not None), default=None),
            "budget": plans[0].budget,
            "seconds": None if seconds is None else round(seconds, 1),
            "warnings": [in_words(photo.hole.warning)] if photo.hole.warning else [],
            "text": str(plans[0]),
        }

    def job(self, record: Record, owner: str, removal: Removal, mask: str | None = None) -> Job:
        """The job that does a removal and adds a round to the photo.

        Args:
            record: of the photo.
            owner: who asks.
            removal: what is asked for.
            mask: id of its mask where that is kept already.

        Raises:
            Problem: nothing is marked, or the photo has too many rounds.
        """
        _check_marked(removal)
        if len(record.rounds) > self._limits.rounds:
            raise Problem(TOO_MANY, f"The photo has {self._limits.rounds} rounds; open the result anew to go on.")
        kept = mask or self._store.add_mask(record, removal.mask)
        # A job can wait long: it holds the mask's id and not its pixels.
        waiting = replace(removal, mask=np.zeros((0, 0), bool))

        def work(job: Job) -> None:
            with self._store.in_use(record):
                self._remove(job, record, replace(waiting, mask=self._store.mask(record, kept)), kept)
            trim()

        about = {"photo": record.id, "parent": removal.parent, "mask": kept, "variant_of": removal.variant_of}
        return Job(owner, removal.choice.device, work, about)

    def fill(self, job: Job, photo: Photo, choice: Choice) -> PhotoResult:
        """Fill a photo's hole for a job, which is told how far the work is and can end it."""
        cost, seconds, filled = 0.0, 0.0, []
        for window, part in self._parts(photo, choice):
            result, callbacks = self._filled(job, part, choice)
            cost, seconds = cost + callbacks.cost, seconds + callbacks.seconds
            filled.append((window, result.picture))
        if cost and not result.refinement.stopped:
            self._pace.learn(choice, cost, seconds)
        if filled[0][1].size == photo.picture.size:
            return result
        return replace(result, photo=photo, picture=put_back(photo.picture, filled))

    def _parts(self, photo: Photo, choice: Choice) -> list[tuple[Window, Photo]]:
        """What is filled one after the other: refinement cuts its own windows, so that it gets the whole photo."""
        if choice.settings.refine:
            return [(whole(photo.picture.size), photo)]
        windows = parts_around(photo.hole, self.models.of(choice).spec.train_size // 2)
        return [(window, part_of(photo, window)) for window in windows]

    def _filled(self, job: Job, photo: Photo, choice: Choice) -> tuple[PhotoResult, JobCallbacks]:
        model = self.models.of(choice)
        callbacks = JobCallbacks(job, photo, choice, self._pace)
        result = photo.inpaint(
            model,
            choice.settings,
            pick_devices(choice.device),
            callbacks.on_progress,
            callbacks.on_plan,
            on_scale=callbacks.on_scale,
        )
        return result, callbacks

    def warm_up(self, job: Job, offer: Offer) -> None:
        """Load the default model and let it fill a small picture, so that the first visitor does not wait for either.

        The time of its predictions tells how long real work takes.
        """
        values = np.add.outer(np.arange(_WARM), np.arange(_WARM))[..., None].repeat(3, axis=2) % 256
        hole = np.zeros((_WARM, _WARM), dtype=bool)
        hole[_WARM // 2 : _WARM // 2 + 32, _WARM // 2 : _WARM // 2 + 32] = True
        photo, choice = Photo(Picture(values.astype(np.uint8)), Hole(hole)), offer.choose({})
        try:
            # The first run warms PyTorch up. The other two differ in the number of predictions and in nothing else.
            (_, _), (cost, seconds), (more, longer) = (self._tried(job, photo, choice, steps) for steps in (1, 2, 6))
        except RefinerError as error:  # a real job will show the error to its visitor
            _log.warning("%s", in_words(error))
            return
        if self._pace.knows(choice):
            return  # from real work, which tells more
        if more > cost and longer > seconds:
            self._pace.learn(choice, more - cost, longer - seconds)
        else:  # there is nothing to refine, or others used the machine meanwhile
            self._pace.learn(choice, more, longer)

    def _tried(self, job: Job, photo: Photo, choice: Choice, steps: int) -> tuple[float, float]:
        """Cost and seconds of a removal that is done only to be timed."""
        settings = replace(choice.settings, steps=steps)
        callbacks = self._filled(job, photo, replace(choice, settings=settings))[1]
        return callbacks.cost, callbacks.seconds

    def _remove(self, job: Job, record: Record, removal: Removal, mask: str) -> None:
        started = time.perf_counter()
        job.check()
        photo = self._photo(record, removal)
        photo.check_fits(Path(f"x{default_suffix(Path(record.name))}"))
        self._first_look(job, record, removal, photo)
        result = self.fill(job, photo, removal.choice)
        values = Round(
            0,
            removal.parent,
            mask,
            removal.grow,
            removal.feather,
            seconds=round(time.perf_counter() - started, 1),
            stopped=result.refinement.stopped,
            asked=removal.asked,
            copied=copied(result.refinement.scales[-1].shares),
            variant_of=removal.variant_of,
        )
        if removal.variant_of is not None:
            values = replace(values, faults=faults_of(result.picture, photo.hole.mask))
            self._judge_first(record, removal.variant_of, photo.hole.mask)
        job.commit()
        made = self._store.add_round(record, result.picture, values, photo.hole.mask)
        job.tell(round=made.number)
        saved = save_result(record, result.picture, made.number, self._output)
        if saved is not None:
            self._store.note_saved(record, made.number, saved)

    def _judge_first(self, record: Record, number: int, hole: Mask) -> None:
        """Judge the fill that others are to be compared with; one that nobody asks others of is never judged."""
        first = record.rounds[number]
        if first.faults is None and not first.gone:
            self._store.note_faults(record, number, faults_of(self._store.picture(record, number), hole))

    def _first_look(self, job: Job, record: Record, removal: Removal, photo: Photo) -> None:
        """Fill a small copy of the photo and show it: quicker than halving a large photo once."""
        model, choice = self.models.of(removal.choice), removal.choice
        height, width = record.size
        # The model alone is quickest, but would show something else than the result where that is made of copies.
        copies = made_of_copies(choice.settings, model)
        short = _CHOSEN_AT if copies else choice.settings.min_side or model.spec.train_size
        side = short * max(height, width) // min(height, width)
        if max(height, width) <= 2 * side:
            return  # the real work is as quick
        pixels = np.asarray(read_rgb(self._store.screen(record, removal.parent), enough=short))
        small = resized(pixels, side)
        covered = part_of_mask(photo.hole.mask, (0, 0, width, height), small.shape[:2])
        if not covered.any() or (covered > 0).all():
            return  # at this size, the hole is nothing or everything
        look = Photo(Picture(small), Hole(covered > 0))
        settings = replace(choice.settings, max_scales=1) if copies else replace(choice.settings, refine=False)
        started = time.thread_time()

        def on_progress(_: Progress) -> None:
            job.check()
            if time.thread_time() - started > _LOOKED:  # other programs' work does not count: it would show noise
                raise StopRefinement

        # Threads that wait for each other at every step of so small a picture cost more than they save.
        with _one_thread() if copies else nullcontext():
            result = look.inpaint(model, settings, pick_devices(choice.device), on_progress)
        box = box_in_copy(photo, small.shape[:2])
        part = result.picture.color[box.top : box.bottom, box.left : box.right]
        shown = as_png(part, part_of_mask(photo.hole.mask, box.place, part.shape[:2]))
        job.show(0, shown, latest={"number": 0, "box": box.place, "size": [small.shape[1], small.shape[0]]})
        job.check()

    def _photo(self, record: Record, removal: Removal) -> Photo:
        picture = self._store.picture(record, self._store.round_of(record, removal.parent).number)
        return Photo(picture, _hole(removal, picture))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Have PyTorch compute in the calling thread alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_marked(removal: Removal) -> None:
    if not removal.mask.any():
        raise Problem(UNPROCESSABLE, "Nothing is marked; paint over what is to go first.")


def _hole(removal: Removal, picture: Picture) -> Hole:
    return read_mask(removal.mask, picture, MaskOptions(dilate=removal.grow, feather=removal.feather))
