"""One window: Adam on the features between front and rear."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from refiner.engine.capture import Recordings, Update
from refiner.engine.tuning import Tuning, kind_of
from refiner.interruption import Interruption

if TYPE_CHECKING:
    from collections.abc import Mapping

    from refiner.engine.objective import Loss
    from refiner.models.features import Features
    from refiner.settings import Keep


class StopRefinement(Exception):  # noqa: N818  a request, not an error
    """Raised by a progress callback to stop the work and get the best so far."""


OnStep: TypeAlias = Callable[[int, float, int], object]
"""Called with the index and the loss of each prediction, and how many there will be; may raise `StopRefinement`."""


@dataclass(frozen=True)
class Outcome:
    """What an optimization gave; its tensors stay on their device, so that nothing has to wait for it.

    Attributes:
        prediction: the prediction kept, without gradient; (N,3,H,W).
        loss: its loss, of each image; (N,).
        losses: loss of every prediction made, the mean over the batch; (steps made,).
        kept: index into `losses` of the prediction kept; for a batch, the last one any of its images kept; a scalar.
        stopped: whether the callback asked to stop, or an interruption did.
    """

    prediction: Tensor
    loss: Tensor
    losses: Tensor
    kept: Tensor
    stopped: bool


def optimize_features(
    rear: Callable[[Features], Tensor],
    start: Callable[[], Features],
    objective: Loss,
    *,
    steps: int,
    lr: float,
    keep: Keep,
    on_step: OnStep | None = None,
    conv_dtype: torch.dtype | None = None,
    lr_scale: Mapping[str, float] | None = None,
    recordings: Recordings[Tuned] | None = None,
    repeats: int = 1,
) -> Outcome:
    """Optimize features so that what `rear` makes of them agrees with the objective.

    Images of a batch do not influence each other. Without `on_step` this also runs on the `meta` device.

    Args:
        rear: features to prediction (N,3,H,W).
        start: gives the features to begin with, nested tensors; their floating-point leaves are optimized together, on
            copies, so that what it gave is freed where nobody else keeps it.
        objective: prediction to the loss of each image, (N,).
        steps: predictions to make; Adam updates the features between them.
        lr: Adam's learning rate.
        keep: `best` keeps each image's prediction of lowest loss, `last` the last one.
        on_step: called after each prediction.
        conv_dtype: precision to compute convolutions of `rear` in; None for that of their inputs.
        lr_scale: factors on the learning rate of single features, see `refiner.models.features.lr_factors`; 0 freezes.
        recordings: what was recorded of this `rear` for other windows, and will be for later ones.
        repeats: windows of this shape to come, this one counted.

    Raises:
        ModelError: the prediction does not depend on any feature, or all are frozen.
        InputError: a name in `lr_scale` is not a feature's.
    """
    recordings = Recordings() if recordings is None else recordings
    window, kind = _tuned(rear, start, objective, lr, lr_scale or {}, conv_dtype, steps * repeats, recordings)
    update = window.update
    kept = _Kept(keep)
    losses: list[Tensor] = []
    stopped = False
    for step in range(steps):
        try:
            if step > 0:
                update.step()
            prediction, loss = update.predict()
        except Interruption as interruption:
            if step == 0 or not isinstance(interruption.why, StopRefinement):
                raise
            stopped = True
            break
        losses.append(loss.mean())
        kept.see(step, prediction, loss)
        del prediction, loss  # frees them before the next ones are made
        if on_step is not None:
            try:
                on_step(step, losses[-1].item(), steps)
            except StopRefinement:
                stopped = True
                break
    if update.recorded:
        recordings.keep(kind, window)
    return Outcome(kept.prediction, kept.loss, torch.stack(losses), kept.step, stopped)


@dataclass(frozen=True)
class Tuned:
    """What is optimized, and its update, perhaps recorded."""

    tuning: Tuning
    update: Update


def _tuned(
    rear: Callable[[Features], Tensor],
    start: Callable[[], Features],
    objective: Loss,
    lr: float,
    lr_scale: Mapping[str, float],
    conv_dtype: torch.dtype | None,
    predictions: int,
    recordings: Recordings[Tuned],
) -> tuple[Tuned, object]:
    """What optimizes the features and its kind: that of a window before, where it was recorded and is of this kind."""
    features = start()
    kind = kind_of(features, objective, lr, lr_scale, conv_dtype)
    held = recordings.take(kind)
    if held is not None:
        held.tuning.put(features, objective)
        held.update.begin_again()
        return held, kind
    tuning = Tuning(rear, features, objective, lr=lr, lr_scale=lr_scale, conv_dtype=conv_dtype, predictions=predictions)
    return Tuned(tuning, Update(tuning.predict, tuning.step, tuning.recorder)), kind


class _Kept:
    """The prediction kept of those seen so far; all of it stays on the device, where nothing has to wait for it.

    Attributes:
        prediction: (N,3,H,W).
        loss: of each image, (N,).
        step: when it was made; a scalar.
    """

    prediction: Tensor
    loss: Tensor
    step: Tensor

    def __init__(self, keep: Keep) -> None:
        self._keep = keep

    def see(self, step: int, prediction: Tensor, loss: Tensor) -> None:
        """Keep each image's prediction where it is better; or any, where the last one is to be kept.

        Args:
            step: when it was made.
            prediction: (N,3,H,W).
            loss: of each image, (N,).
        """
        if step == 0 or self._keep == "last":
            # Copies: a rear half may hand on a feature itself, which Adam writes to, and a replay writes over its own.
            self.prediction, self.loss = prediction.clone(), loss.clone()
            self.step = torch.full((), step, device=loss.device)
            return
        better = loss < self.loss
        self.prediction = torch.where(better[:, None, None, None], prediction, self.prediction)
        self.loss, self.step = torch.where(better, loss, self.loss), torch.where(better.any(), step, self.step)
