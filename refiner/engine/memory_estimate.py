"""How much memory a network's work takes: its refinement, run on shapes alone.

PyTorch's `meta` device knows shapes and computes nothing. The very code that refines is run there, on a copy of the
network without data, and the bytes of all tensors alive are counted. So the estimate holds for any network that runs
there, and cannot drift from the work. Such a rehearsal takes as long as launching the operations does, so a few
tell what windows of all sizes take.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from refiner.engine.back_projection import back_project_window
from refiner.engine.counted_bytes import CountedBytes
from refiner.engine.objective import Target, paper_objective
from refiner.engine.optimize import optimize_features
from refiner.errors import ModelError
from refiner.frozen import FrozenGradients, strip_height
from refiner.frozen.emulation import emulated_on_meta
from refiner.memory import collector_at_rest
from refiner.models.copies import copy_with
from refiner.models.inpainter import Inpainter, run_front, run_rear
from refiner.models.placement import placed_on

if TYPE_CHECKING:
    from refiner.engine.objective import ObjectiveFactory
    from refiner.settings import Keep

_STEPS = 2  # Adam's averages are there from the start, so one update and a prediction after it have everything


# Heights and widths of windows that are rehearsed: one whole and small, one whole and large, one cut into strips.
_SMALL, _LARGE, _TALL = (256, 64), (1024, 512), (2048, 512)
_ROWS = 256


@dataclass(frozen=True)
class Work:
    """What is done in a window, as far as its memory depends on it.

    Attributes:
        dtype: of the image.
        conv_dtype: precision of convolutions; None for the image's.
        emulated: whether convolutions in it are computed in float32 and rounded.
        refined: whether features are optimized; otherwise it is one pass of the network.
        keep: see `Settings`.
        back_projection: see `Settings`.
        objective: what refinement minimizes.
    """

    dtype: torch.dtype
    conv_dtype: torch.dtype | None
    emulated: bool = False
    refined: bool = True
    keep: Keep = "best"
    back_projection: int = 1
    objective: ObjectiveFactory = paper_objective


class MemoryNeed:
    """Bytes of all tensors at the peak of a window's work; where a network lies on several devices, on the fullest.

    Args:
        model: the network.
    """

    def __init__(self, model: Inpainter) -> None:
        self._meta = meta_copy(model)
        self._spec = model.spec
        self._exact: dict[tuple[Work, tuple[int, int], int | None], int | None] = {}

    def exact(self, work: Work, size: tuple[int, int], rows: int | None) -> int | None:
        """Of one window, rehearsed; None where the network does not run without data.

        Args:
            work: what is done.
            size: the window's height and width.
            rows: that the network's full-resolution ends compute at once; None for all.
        """
        if self._meta is None:
            return None
        rows = None if rows is not None and rows >= size[0] else rows
        key = work, self._spec.padded_size(*size), rows
        if key not in self._exact:
            with collector_at_rest():
                self._exact[key] = rehearse(self._meta, work, size, rows)
        return self._exact[key]

    def about(self, work: Work, size: tuple[int, int], rows: int | None) -> int | None:
        """The same, told from rehearsals of other windows: few for each kind of work, whatever the sizes."""
        if self.exact(work, _LARGE, None) is None:
            return None
        constant = self._constant(work)
        height, width = self._spec.padded_size(*size)
        each = self._each(work, _LARGE, None, constant)
        if rows is None or rows >= height or not self._spec.strips:
            return int(constant + each * height * width)
        # Of each pixel, what is there for all of them at once, and what for those of one strip alone.
        tall = self._each(work, _TALL, _ROWS, constant)
        in_strip = (each - tall) / (1 - _ROWS / self._spec.padded_size(*_TALL)[0])
        return int(constant + ((each - in_strip) * height + in_strip * rows) * width)

    def _each(self, work: Work, size: tuple[int, int], rows: int | None, constant: float) -> float:
        """Bytes for each pixel of a window, above what does not follow its size."""
        return ((self.exact(work, size, rows) or 0) - constant) / self._padded_area(size)

    def _constant(self, work: Work) -> float:
        """Bytes that do not follow the window's size: weights in the precision of convolutions."""
        once = replace(work, refined=False)  # which takes a fraction of the time
        small, large = (self.exact(once, size, None) or 0 for size in (_SMALL, _LARGE))
        areas = self._padded_area(_SMALL), self._padded_area(_LARGE)
        return max(small - areas[0] * (large - small) / (areas[1] - areas[0]), 0)

    def _padded_area(self, size: tuple[int, int]) -> int:
        height, width = self._spec.padded_size(*size)
        return height * width


def memory_need(model: Inpainter) -> MemoryNeed:
    """The need of a model, learned once for each model object, where it lies."""
    made_for = model.spec, placed_on(model)
    try:
        before, known = _needs.get(model, (None, None))
        if known is None or before != made_for:
            known = MemoryNeed(model)
            _needs[model] = made_for, known
    except TypeError:  # it has no hash, or cannot be held weakly
        return MemoryNeed(model)
    return known


_needs: weakref.WeakKeyDictionary[Any, tuple[Any, MemoryNeed]] = weakref.WeakKeyDictionary()


def rehearse(meta_model: Inpainter, work: Work, size: tuple[int, int], rows: int | None) -> int | None:
    """Do the work of a window on shapes alone; bytes at the peak, None where the network does not run without data.

    Args:
        meta_model: what `meta_copy` gave.
        work: what is done.
        size: the window's height and width.
        rows: that the network's full-resolution ends compute at once; None for all.
    """
    height, width = size
    padded = meta_model.spec.padded_size(height, width)
    with torch.device("meta"):
        image = torch.empty(1, 3, *padded, dtype=work.dtype)
        hole = torch.empty(1, 1, *padded, dtype=torch.bool)
        coarse = torch.empty(1, 3, height // 2, width // 2, dtype=work.dtype)
    alive = CountedBytes()
    try:
        with strip_height(rows), emulated_on_meta(work.emulated), alive, torch.no_grad(), alive.following(meta_model):
            with FrozenGradients(work.conv_dtype):
                start = [run_front(meta_model, image, hole)]
                if not work.refined:
                    run_rear(meta_model, start.pop(), image)
                    return alive.peak
            target = Target(image, hole, coarse, (height, width))
            loss = work.objective(target)
            found = optimize_features(
                alive.at_home(lambda features: run_rear(meta_model, features, image)),
                start.pop,  # handed over, as the work itself does
                alive.at_home(loss),
                steps=_STEPS,
                lr=1.0,
                keep=work.keep,
                conv_dtype=work.conv_dtype,
            )
            if work.back_projection:
                back_project_window(found.prediction, found.loss, target, loss, work.back_projection, work.keep)
    except ModelError:  # any network may need data, and fail in any way without
        return None
    return alive.peak


def can_estimate(model: Inpainter) -> bool:
    """Whether a model's need of memory can be predicted."""
    side = model.spec.train_size
    return memory_need(model).exact(Work(torch.float32, None), (side, side), None) is not None


def meta_copy(model: Inpainter) -> Inpainter | None:
    """The network without its weights' data, on the `meta` device; None where it is no module or cannot be copied."""
    if not isinstance(model, nn.Module):
        return None
    return copy_with(model, lambda tensor: torch.empty_like(tensor, device="meta"))
