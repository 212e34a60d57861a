"""The features of a window while they are optimized: all that an update reads and writes."""

from __future__ import annotations

from copy import copy
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from refiner.engine.adam import Adam, Group
from refiner.engine.capture import recorder_for
from refiner.errors import ModelError
from refiner.frozen import FrozenGradients, current_strip_height
from refiner.models.features import lr_factors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from refiner.engine.objective import Loss
    from refiner.models.features import Features

# Where there is a GPU, PyTorch computes gradients in threads of its own, and a fork has none of these.
_FORKED = (
    "model: this process was forked from one that had computed gradients, and PyTorch cannot compute any here; start "
    'workers with multiprocessing.get_context("spawn"), or fork before the first photo.'
)
_PLAIN = (bool, int, float, str, type(None))


class Tuning:
    """Features, Adam and the loss of a window; another window's can be put in their place.

    Args:
        rear: features to prediction (N,3,H,W).
        features: to begin with, nested tensors; copied.
        objective: prediction to the loss of each image, (N,).
        lr: Adam's learning rate.
        lr_scale: factors on it of single features, see `refiner.models.features.lr_factors`; 0 freezes.
        conv_dtype: precision to compute convolutions of `rear` in; None for that of their inputs.
        predictions: to come, here and in windows put in its place.

    Attributes:
        recorder: of the device; None to run each update as it is.

    Raises:
        ModelError: there is nothing to optimize.
        InputError: a name in `lr_scale` is not a feature's.
    """

    def __init__(
        self,
        rear: Callable[[Features], Tensor],
        features: Features,
        objective: Loss,
        *,
        lr: float,
        lr_scale: Mapping[str, float],
        conv_dtype: torch.dtype | None,
        predictions: int,
    ) -> None:
        factors = lr_factors(features, lr_scale)
        leaves, self._structure = tree_flatten(features)
        self._leaves = [leaf.detach().clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        groups = _parameter_groups(self._leaves, factors, lr)
        if not groups:
            raise ModelError(
                "model: front gave no floating-point tensor to optimize; expected features, not all frozen."
            )
        self._tuned = [leaf for group in groups for leaf in group.tensors]
        self.recorder = recorder_for(self._tuned[0].device, predictions)
        self._adam = Adam(groups, **(self.recorder.adam if self.recorder is not None else {}))
        self._rear, self._modes = rear, (FrozenGradients(conv_dtype), FrozenGradients())
        # What is recorded reads these very tensors, and the next window's are written over them.
        self._objective = objective if self.recorder is None else _with_own_tensors(objective)

    def put(self, features: Features, objective: Loss) -> None:
        """Go on with another window, of the same `kind_of`."""
        for own, new in zip(self._leaves, tree_flatten(features)[0], strict=True):
            if isinstance(own, Tensor):
                own.detach().copy_(new)
        theirs = _tensors_of(objective)
        for name, own in _tensors_of(self._objective).items():
            own.copy_(theirs[name])
        self._adam.restart()

    def predict(self) -> tuple[Tensor, Tensor]:
        """The prediction (N,3,H,W) and the loss of each image, (N,)."""
        rear_mode, objective_mode = self._modes
        with rear_mode:
            prediction = self._rear(tree_unflatten(self._leaves, self._structure))
        with objective_mode:
            return prediction, self._objective(prediction)

    def step(self, loss: Tensor) -> None:
        """One step of Adam, given the loss; a sum over the batch leaves each image its own gradient."""
        if not loss.requires_grad:
            raise ModelError("model: the prediction has no gradient towards the features; rear must not detach them.")
        with torch.enable_grad():
            total = loss.sum()  # a gradient of ones, given to it, makes PyTorch import half a second of algebra
        try:
            gradients = torch.autograd.grad(total, self._tuned, allow_unused=True)
        except RuntimeError as error:
            if "fork-based multiprocessing" not in str(error):
                raise
            raise ModelError(_FORKED) from error
        for leaf, gradient in zip(self._tuned, gradients, strict=True):
            leaf.grad = gradient
            if gradient is not None and gradient.stride() != leaf.stride():
                # PyTorch's fused Adam takes for granted that both lie alike in memory, and is silently wrong where not.
                leaf.grad = torch.empty_like(leaf).copy_(gradient)
        del gradient, gradients
        self._adam.step()
        for leaf in self._tuned:
            leaf.grad = None  # the next prediction is made without it


def kind_of(
    features: Features, objective: Loss, lr: float, lr_scale: Mapping[str, float], conv_dtype: torch.dtype | None
) -> object:
    """What windows have in common that can follow each other in one `Tuning`; None where none can follow this one.

    That is so for losses that are dataclasses of tensors and plain values, as the paper's: nothing else is known to
    depend on the window only by what can be copied.
    """
    leaves, structure = tree_flatten(features)
    parts = [*leaves]
    if not is_dataclass(objective):
        return None
    parts += [getattr(objective, field.name) for field in fields(objective)]
    if not all(isinstance(part, Tensor) or _is_plain(part) for part in parts):
        return None
    described = [(x.shape, x.stride(), x.dtype, x.device) if isinstance(x, Tensor) else x for x in parts]
    return described, structure, type(objective), lr, dict(lr_scale), conv_dtype, current_strip_height()


def _is_plain(value: Any) -> bool:
    return isinstance(value, _PLAIN) or (isinstance(value, tuple) and all(map(_is_plain, value)))


def _tensors_of(loss: Any) -> dict[str, Tensor]:
    if not is_dataclass(loss):
        return {}
    values = {field.name: getattr(loss, field.name) for field in fields(loss)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def _with_own_tensors(loss: Loss) -> Loss:
    """A loss whose tensors are views of nobody's photo."""
    tensors = _tensors_of(loss)
    if not tensors:
        return loss
    own = copy(loss)
    for name, tensor in tensors.items():
        object.__setattr__(own, name, tensor.clone())  # it may be frozen
    return own


def _parameter_groups(leaves: list[Any], factors: list[float], lr: float) -> list[Group]:
    """What Adam is given: the leaves to optimize, which now require a gradient, in groups of one learning rate."""
    groups: dict[float, list[Tensor]] = {}
    for leaf, factor in zip(leaves, factors, strict=True):
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and factor > 0:
            groups.setdefault(factor, []).append(leaf.requires_grad_())
    return [Group(tensors, factor * lr) for factor, tensors in groups.items()]
