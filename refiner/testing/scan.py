"""Try every place to cut a sequence of layers in two."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from refiner.engine import pyramid
from refiner.engine.objective import Target, paper_objective
from refiner.engine.optimize import optimize_features
from refiner.engine.padding import size_of
from refiner.errors import InputError
from refiner.frozen import FrozenGradients, saved_bytes
from refiner.models.features import cast_features
from refiner.models.private import private
from refiner.models.split import SequentialInpainter
from refiner.testing.attributes import HasSequence
from refiner.testing.subject import Subject
from refiner.torch_state import own_state

if TYPE_CHECKING:
    from refiner.models.inpainter import Inpainter

_STEPS = 15


@dataclass(frozen=True)
class Cut:
    """What was measured at one place to cut a sequence of layers.

    Attributes:
        at: name of the first layer of the rear half.
        depth: layers before it.
        shape: of each feature tensor for the test picture, without N.
        values: values in the features, per pixel of the picture.
        saved_bytes: bytes kept for the backward pass, per pixel of the picture.
        seconds: of one update.
        loss_before: loss of the first prediction.
        loss_after: lowest loss of all predictions, 15 unless `scan` was told otherwise.
    """

    at: str
    depth: int
    shape: tuple[tuple[int, ...], ...]
    values: float
    saved_bytes: float
    seconds: float
    loss_before: float
    loss_after: float


def scan(model: Inpainter, *, steps: int = _STEPS) -> list[Cut]:
    """Try every place to cut a sequence: what refinement costs there, and how far it lowers the loss.

    Args:
        model: an inpainter made by `split_sequential`, or one whose method `sequence()` gives such an inpainter.
        steps: predictions to make at each place.

    Raises:
        InputError: the model is not a sequence.
    """
    if isinstance(model, HasSequence):
        model = model.sequence()
    if not isinstance(model, SequentialInpainter):
        raise InputError(
            f"scan: expected a sequence of layers made by split_sequential, got a {type(model).__name__}; only its "
            "author can cut it."
        )
    with own_state(Subject(model).device), private(model) as held:
        assert isinstance(held, SequentialInpainter)  # noqa: S101  the copy has the model's type
        return [_try_cut(Subject(held.moved_to(at)), steps) for at in range(1, len(held.layers))]


def _try_cut(subject: Subject, steps: int) -> Cut:
    model = subject.model
    height, width = subject.size
    image, hole = subject.picture(2 * height, 2 * width)
    (small, small_hole), _ = pyramid.build_pyramid(image, hole > 0, 2)
    with FrozenGradients():
        coarse = torch.where(small_hole, subject.predict(small, small_hole.to(image.dtype)), small)
        features = cast_features(model.front(image, hole), image.dtype)
    objective = paper_objective(Target(image, hole > 0, coarse, size_of(image)))
    pixels = image.shape[2] * image.shape[3]

    with torch.enable_grad(), FrozenGradients():
        tuned, structure = tree_flatten(subject.features(image, hole))
        kept = saved_bytes(lambda: model.rear(tree_unflatten(tuned, structure)))
    start = time.perf_counter()
    outcome = optimize_features(
        model.rear,
        lambda: features,
        objective,
        steps=steps,
        lr=model.spec.learning_rate,
        keep="best",
        lr_scale=model.spec.lr_scale,
    )
    seconds = (time.perf_counter() - start) / max(steps, 1)
    leaves = [leaf for leaf in tree_leaves(features) if isinstance(leaf, Tensor)]
    return Cut(
        at=model.layers[model.at][0],
        depth=model.at,
        shape=tuple(tuple(leaf.shape[1:]) for leaf in leaves),
        values=sum(leaf.numel() for leaf in leaves) / pixels,
        saved_bytes=kept / pixels,
        seconds=seconds,
        loss_before=float(outcome.losses[0]),
        loss_after=float(outcome.losses.min()),
    )
