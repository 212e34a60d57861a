"""One scale: Adam on the features between front and rear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

# The one private name used here: PyTorch's own walk over nested structures has no public spelling.
from torch.utils._pytree import tree_flatten, tree_unflatten

from refiner.errors import InputError
from refiner.frozen import FrozenGradients
from refiner.models.inpainter import lr_scale

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from refiner.models.inpainter import Features
    from refiner.settings import Keep


class StopRefinement(Exception):  # noqa: N818  a request, not an error
    """Raised by a progress callback to stop the work and get the best so far."""


@dataclass(frozen=True)
class Outcome:
    """What one scale gave.

    Attributes:
        prediction: the prediction kept, without gradient; (N,3,H,W).
        losses: loss of every prediction made, the mean over the batch.
        kept: index into `losses` of the prediction kept; for a batch, the last one any of its pictures kept.
        stopped: whether the callback asked to stop.
    """

    prediction: Tensor
    losses: tuple[float, ...]
    kept: int
    stopped: bool


def optimize_features(
    rear: Callable[[Features], Tensor],
    features: Features,
    objective: Callable[[Tensor], Tensor],
    *,
    steps: int,
    lr: float,
    keep: Keep,
    on_step: Callable[[int, float], object],
    conv_dtype: torch.dtype | None = None,
    rates: Mapping[str, float] | None = None,
) -> Outcome:
    """Optimize features so that what `rear` makes of them agrees with the objective.

    Args:
        rear: features to prediction (N,3,H,W).
        features: nested tensors; their floating-point leaves are optimized together, on copies.
        objective: prediction to the loss of each picture, (N,).
        steps: predictions to make; Adam updates the features between them.
        lr: Adam's learning rate.
        keep: `best` keeps each picture's prediction of lowest loss, `last` the last one.
        on_step: told the index and the loss of each prediction; may raise `StopRefinement`.
        conv_dtype: precision to compute convolutions of `rear` in; None for that of their inputs.
        rates: factors on the learning rate of single leaves, see `refiner.inpainter.lr_scale`; 0 freezes.

    Raises:
        InputError: the prediction does not depend on any feature, or a name in `rates` is not a feature's.
    """
    leaves, structure = tree_flatten(features)
    leaves = [leaf.detach().clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    groups = parameter_groups(leaves, lr_scale(features, rates or {}), lr)
    if not groups:
        raise InputError("model: front gave no floating-point tensor to optimize; expected features, not all frozen.")
    adam = torch.optim.Adam(groups, lr=lr)
    tuned = [leaf for group in groups for leaf in group["params"]]

    rear_mode, objective_mode = FrozenGradients(conv_dtype), FrozenGradients()
    kept_prediction: Tensor | None = None
    kept_loss = torch.empty(0)
    kept, losses, stopped = 0, [], False
    for step in range(steps):
        with torch.enable_grad():
            with rear_mode:
                prediction = rear(tree_unflatten(leaves, structure))
            with objective_mode:
                loss = objective(prediction)
        losses.append(loss.detach().mean().item())

        if kept_prediction is None or keep == "last":
            # A copy: a rear half may hand on a feature itself, which Adam writes to.
            kept_prediction, kept_loss, kept = prediction.detach().clone(), loss.detach(), step
        elif (better := loss.detach() < kept_loss).any():
            kept_prediction = torch.where(better[:, None, None, None], prediction.detach(), kept_prediction)
            kept_loss, kept = torch.where(better, loss.detach(), kept_loss), step
        try:
            on_step(step, losses[-1])
        except StopRefinement:
            stopped = True
            break
        if step < steps - 1:
            update(adam, tuned, loss)
        del prediction, loss  # frees the graph before the next one is built

    assert kept_prediction is not None  # noqa: S101  steps is at least 1
    return Outcome(kept_prediction, tuple(losses), kept, stopped)


def parameter_groups(leaves: list[Any], rates: list[float], lr: float) -> list[dict[str, Any]]:
    """What Adam is given: the leaves to optimize, which now require a gradient, in groups of one learning rate."""
    groups: dict[float, list[Tensor]] = {}
    for leaf, rate in zip(leaves, rates, strict=True):
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and rate > 0:
            groups.setdefault(rate, []).append(leaf.requires_grad_())
    return [{"params": params, "lr": rate * lr} for rate, params in groups.items()]


def update(adam: torch.optim.Adam, tuned: list[Tensor], loss: Tensor) -> None:
    """One step of Adam on what is tuned; a sum over the batch leaves each picture its own gradient."""
    if not loss.requires_grad:
        raise InputError("model: the prediction has no gradient towards the features; rear must not detach them.")
    gradients = torch.autograd.grad(loss, tuned, torch.ones_like(loss), allow_unused=True)
    for leaf, gradient in zip(tuned, gradients, strict=True):
        leaf.grad = gradient
    adam.step()
