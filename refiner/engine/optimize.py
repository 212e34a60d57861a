"""One window: Adam on the features between front and rear."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from refiner.engine.adam import Adam, Group
from refiner.engine.capture import Update, recorder_for
from refiner.errors import ModelError
from refiner.frozen import FrozenGradients
from refiner.models.features import lr_factors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from refiner.engine.objective import Loss
    from refiner.models.features import Features
    from refiner.settings import Keep


# Where there is a GPU, PyTorch computes gradients in threads of its own, and a fork has none of these.
_FORKED = (
    "model: this process was forked from one that had computed gradients, and PyTorch cannot compute any here; start "
    'workers with multiprocessing.get_context("spawn"), or fork before the first photo.'
)


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
        stopped: whether the callback asked to stop.
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

    Raises:
        ModelError: the prediction does not depend on any feature, or all are frozen.
        InputError: a name in `lr_scale` is not a feature's.
    """
    features = start()
    factors = lr_factors(features, lr_scale or {})
    leaves, structure = tree_flatten(features)
    del features
    leaves = [leaf.detach().clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    groups = _parameter_groups(leaves, factors, lr)
    if not groups:
        raise ModelError("model: front gave no floating-point tensor to optimize; expected features, not all frozen.")
    tuned = [leaf for group in groups for leaf in group.tensors]
    recorder = recorder_for(tuned[0].device, steps)
    adam = Adam(groups, **(recorder.adam if recorder is not None else {}))
    rear_mode, objective_mode = FrozenGradients(conv_dtype), FrozenGradients()

    def forward() -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            with rear_mode:
                prediction = rear(tree_unflatten(leaves, structure))
            with objective_mode:
                return prediction, objective(prediction)

    update = Update(forward, lambda loss: _update(adam, tuned, loss), recorder)
    kept = _Kept(keep)
    losses: list[Tensor] = []
    stopped = False
    for step in range(steps):
        if step > 0:
            update.step()
        prediction, loss = update.predict()
        losses.append(loss.mean())
        kept.see(step, prediction, loss)
        del prediction, loss  # frees them before the next ones are made
        if on_step is not None:
            try:
                on_step(step, losses[-1].item(), steps)
            except StopRefinement:
                stopped = True
                break
    return Outcome(kept.prediction, kept.loss, torch.stack(losses), kept.step, stopped)


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


def _parameter_groups(leaves: list[Any], factors: list[float], lr: float) -> list[Group]:
    """What Adam is given: the leaves to optimize, which now require a gradient, in groups of one learning rate."""
    groups: dict[float, list[Tensor]] = {}
    for leaf, factor in zip(leaves, factors, strict=True):
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and factor > 0:
            groups.setdefault(factor, []).append(leaf.requires_grad_())
    return [Group(tensors, factor * lr) for factor, tensors in groups.items()]


def _update(adam: Adam, tuned: list[Tensor], loss: Tensor) -> None:
    """One step of Adam on what is tuned; a sum over the batch leaves each image its own gradient."""
    if not loss.requires_grad:
        raise ModelError("model: the prediction has no gradient towards the features; rear must not detach them.")
    try:
        gradients = torch.autograd.grad(loss, tuned, torch.ones_like(loss), allow_unused=True)
    except RuntimeError as error:
        if "fork-based multiprocessing" not in str(error):
            raise
        raise ModelError(_FORKED) from error
    for leaf, gradient in zip(tuned, gradients, strict=True):
        leaf.grad = gradient
        if gradient is not None and gradient.stride() != leaf.stride():
            # PyTorch's fused Adam takes for granted that both lie alike in memory, and is silently wrong where not.
            leaf.grad = torch.empty_like(leaf).copy_(gradient)
    del gradient, gradients
    adam.step()
    for leaf in tuned:
        leaf.grad = None  # the next prediction is made without it
