"""The network at work on one photo, scale by scale, by a plan: one pass at the smallest, refinement at the larger."""

from __future__ import annotations

import math
import warnings
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from refiner.engine.back_projection import back_project_window
from refiner.engine.finishing import finished
from refiner.engine.objective import Target
from refiner.engine.optimize import StopRefinement, optimize_features
from refiner.engine.padding import crop, pad, pad_to_even, size_of
from refiner.engine.precision import trying_pays
from refiner.engine.pyramid import enlarge, exactly_half
from refiner.engine.reporter import duration
from refiner.engine.result import WindowResult
from refiner.errors import ModelError, RefinerWarning
from refiner.frozen import FrozenGradients, strip_height
from refiner.interruption import Interruption, stoppable
from refiner.memory import freed_memory_kept, is_out_of_memory, make_room
from refiner.models.inpainter import Inpainter, run_front, run_rear
from refiner.regions import whole
from refiner.torch_state import algorithms_tried

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor

    from refiner.engine.capture import Recordings
    from refiner.engine.objective import ObjectiveFactory
    from refiner.engine.optimize import OnStep, Tuned
    from refiner.engine.padding import Padding
    from refiner.engine.plan import Plan
    from refiner.engine.reporter import Reporter
    from refiner.engine.result import Progress
    from refiner.regions import Window
    from refiner.settings import Settings

_PICTURES = 8  # that back-projection has at once


@dataclass(frozen=True)
class Fill:
    """What one scale gave.

    Attributes:
        prediction: (1,3,H,W); it counts in the hole.
        windows: what happened in each window that the network refined.
        shares: of the hole's pixels, by what filled them.
    """

    prediction: Tensor
    windows: tuple[WindowResult, ...] = ()
    shares: dict[str, float] = field(default_factory=dict)


class Network:
    """Runs a network on one photo.

    Where memory runs out after all, the work of a scale is done again by the next plan; where it gives NaN or infinity,
    again in float32.

    Args:
        model: the network, held still.
        settings: of the refinement.
        objective: makes the loss of a window.
        plan: how the work is cut.
        planned: makes the plan that comes after so many others, for these settings and bytes to take.
        reporter: is told of plans and predictions.
        devices: those that the network lies on.
        recordings: of its rear half, for other photos too.

    Attributes:
        plan: the one in force.
        warnings: what went wrong and was mended, a line each.
    """

    def __init__(
        self,
        model: Inpainter,
        settings: Settings,
        objective: ObjectiveFactory,
        plan: Plan,
        planned: Callable[[Settings, int, int | None], Plan],
        reporter: Reporter,
        devices: Sequence[torch.device],
        recordings: Recordings[Tuned],
    ) -> None:
        self._model, self._settings, self._objective = model, settings, objective
        self.plan, self._planned = plan, planned
        self._reporter, self._devices, self._recordings = reporter, devices, recordings
        self.warnings: list[str] = []

    def inpaint(self, image: Tensor, hole: Tensor, here: Progress) -> Fill:
        """Fill the smallest scale, image (1,3,H,W) and hole (1,1,H,W), in one full pass."""

        def once(plan: Plan) -> Fill:
            # Where they do not refine, the authors pad this one pass by mirroring at the outer edge.
            padded, padded_hole = self._padded(image, hole, "reflect" if self._settings.refine else "symmetric")
            with FrozenGradients(plan.conv_dtype):
                prediction = run_rear(self._model, run_front(self._model, padded, padded_hole), padded)
            return Fill(crop(prediction, image), shares={"model": 1.0})

        fill = self._finished(self._attempted(once, image), image, hole, here)
        with suppress(StopRefinement):  # the reporter remembers
            self._reporter.prediction(here)
        return fill

    def refine(self, image: Tensor, hole: Tensor, coarse: Tensor, here: Progress) -> Fill:
        """Fill a larger scale window by window, so that each agrees with the composite of the scale below it."""
        fill = self._attempted(lambda plan: self._in_windows(plan, image, hole, coarse, here), image)
        return self._finished(fill, image, hole, here)

    def _in_windows(self, plan: Plan, image: Tensor, hole: Tensor, coarse: Tensor, here: Progress) -> Fill:
        full = image
        windows = plan.scale_windows[here.scale - 1]
        if windows != (whole(size_of(hole)),):
            # A window is compared at exactly half its size, which an odd image's coarser scale is not.
            coarse = exactly_half(coarse, size_of(image))
            image, hole = pad_to_even(image), pad_to_even(hole)
        prediction = enlarge(coarse, size_of(image))  # stays where a stop leaves a window unrefined
        results: list[WindowResult] = []
        area, before = sum(window.area for window in windows), 0
        for index, window in enumerate(windows):
            at = replace(here, window=index + 1, windows=len(windows))
            on_step = self._on_step(at, before / area, window.area / area)
            alike = sum(other.size == window.size for other in windows[index:])
            try:
                refined, result = self._refine_window(plan, image, hole, coarse, window, on_step, here.scale, alike)
            except Interruption as interruption:
                if not isinstance(interruption.why, StopRefinement):
                    raise
                self._reporter.stopped = True
                break
            before += window.area
            window.of(prediction).copy_(refined)
            results.append(result)
            if self._reporter.stopped:
                break
        return Fill(crop(prediction, full), tuple(results), {"features": 1.0})

    def _refine_window(
        self,
        plan: Plan,
        image: Tensor,
        hole: Tensor,
        coarse: Tensor,
        window: Window,
        on_step: OnStep | None,
        scale: int,
        alike: int,
    ) -> tuple[Tensor, WindowResult]:
        """The prediction of a window, cropped to it, and what happened there; so many of its size are to come."""
        model, settings = self._model, self._settings
        own = window.of(image)
        padded, padded_hole = self._padded(own, window.of(hole), "reflect")
        with stoppable(), FrozenGradients(plan.conv_dtype):
            start = [run_front(model, padded, padded_hole)]
        target = Target(padded, padded_hole, window.halved().of(coarse), size_of(own))
        objective = self._objective(target)
        steps = settings.steps_at(scale - 2)
        tries = trying_pays(steps * alike, tf32=plan.tf32)
        with stoppable(), algorithms_tried(padded.device) if tries else nullcontext():
            outcome = optimize_features(
                rear=lambda features: run_rear(model, features, padded),
                start=start.pop,  # handed over: Adam soon has other features, and these are freed
                objective=objective,
                steps=steps,
                lr=settings.lr or model.spec.learning_rate,
                keep=settings.keep,
                on_step=on_step,
                conv_dtype=plan.conv_dtype,
                lr_scale=model.spec.lr_scale,
                recordings=self._recordings,
                repeats=alike,
            )
        self._reporter.stopped |= outcome.stopped
        prediction, corrected = outcome.prediction, None
        if settings.back_projection:
            make_room(_PICTURES * prediction.nbytes)
            prediction, loss, taken = back_project_window(
                prediction, outcome.loss, target, objective, settings.back_projection, settings.keep
            )
            corrected = float(loss.mean()) if taken.any() else None
        result = WindowResult(window, tuple(outcome.losses.tolist()), int(outcome.kept), corrected)
        return crop(prediction, own), result

    def _attempted(self, work: Callable[[Plan], Fill], image: Tensor) -> Fill:
        """Do a scale's work by the plan; again by the next where memory runs out, and in float32 where it gives NaN."""
        while True:
            try:
                with strip_height(self.plan.strip_height), self._memory_kept():
                    fill = work(self.plan)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                fill = None
            if fill is None:
                self._recordings.release()
                for kind in {device.type for device in self._devices} & {"cuda", "mps"}:
                    getattr(torch, kind).empty_cache()
                self._replan(self.plan.attempt + 1)
            elif _is_finite(fill):
                return fill
            else:
                self._go_on_in_float32(image)

    def _go_on_in_float32(self, image: Tensor) -> None:
        size, before = f"{image.shape[3]}x{image.shape[2]}", self.plan.conv_dtype
        if before is None:
            raise ModelError(f"model: its prediction at {size} has NaN or infinity; `refiner check` tells more.")
        name = str(before).removeprefix("torch.")
        self.warnings.append(f"precision: {name} gave NaN or infinity at {size}; going on in float32.")
        warnings.warn(self.warnings[-1], RefinerWarning, stacklevel=2)
        self._settings = replace(self._settings, precision="float32")
        self._replan(0)

    def _replan(self, attempt: int) -> None:
        self.plan = self._planned(self._settings, attempt, self.plan.budget)
        self._reporter.planned(self.plan)

    def _memory_kept(self) -> AbstractContextManager[None]:
        """Where all is computed in the machine's own memory, what is freed is kept, within what was predicted."""
        if any(device.type != "cpu" for device in self._devices):
            return nullcontext()
        return freed_memory_kept(self.plan.work_bytes)

    def _finished(self, fill: Fill, image: Tensor, hole: Tensor, here: Progress) -> Fill:
        last = here.scale == here.scales
        return replace(fill, prediction=finished(fill.prediction, image, hole, self._settings, last=last))

    def _padded(self, image: Tensor, hole: Tensor, padding: Padding) -> tuple[Tensor, Tensor]:
        size = self._model.spec.padded_size(*size_of(image))
        return pad(image, size, padding), pad(hole, size, padding)

    def _on_step(self, here: Progress, before: float, share: float) -> OnStep | None:
        """Tells of each prediction of a window, given the share of the scale before it and its own."""
        if not self._reporter.listens:
            return None

        def tell(step: int, loss: float, steps: int) -> None:
            # An update follows each prediction but the last.
            done = before + share * duration(step + 1) / duration(steps)
            self._reporter.prediction(replace(here, step=step + 1, steps=steps, loss=loss, scale_done=done))

        return tell


def _is_finite(fill: Fill) -> bool:
    losses = [loss for window in fill.windows for loss in window.losses]
    return all(map(math.isfinite, losses)) and bool(fill.prediction.isfinite().all())


def shares(hole: Tensor, **parts: Any) -> dict[str, float]:
    """The share of the hole's pixels that each part, bool and of its shape, has; those that have none left out."""
    pixels = max(int(hole.sum()), 1)
    found = {name: round(int((part & hole).sum()) / pixels, 4) for name, part in parts.items()}
    return {name: share for name, share in found.items() if share}
