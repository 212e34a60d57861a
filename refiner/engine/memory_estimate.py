"""How much memory a network's work takes: its refinement, run on shapes alone.

PyTorch's `meta` device knows shapes and computes nothing. The very code that refines is run there, on a copy of the
network without data, and the bytes of all tensors alive are counted. So the estimate holds for any network that runs
there, and cannot drift from the work. Such a rehearsal takes as long as launching the operations does, so a few
tell what windows of all sizes take.
"""

from __future__ import annotations

import weakref
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from refiner.engine.back_projection import back_project_window
from refiner.engine.objective import Target, paper_objective
from refiner.engine.optimize import optimize_features
from refiner.errors import ModelError
from refiner.frozen import FrozenGradients, strip_height
from refiner.frozen.operators import on_shapes
from refiner.models.inpainter import Inpainter, run_front, run_rear
from refiner.models.placement import carried_parts, placed_on
from refiner.models.private import copy_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch.utils.hooks import RemovableHandle

    from refiner.engine.objective import ObjectiveFactory
    from refiner.settings import Keep

_STEPS = 3  # after the second update Adam's averages are there, and the third prediction is made beside them


# Heights and widths of windows that are rehearsed: two whole and small, one whole and large, one cut into strips.
_SMALL, _WIDE, _LARGE, _TALL = (256, 64), (256, 256), (1024, 512), (2048, 512)
_ROWS = 256


@dataclass(frozen=True)
class Work:
    """What is done in a window, as far as its memory depends on it.

    Attributes:
        dtype: of the image.
        conv_dtype: precision of convolutions; None for the image's.
        refined: whether features are optimized; otherwise it is one pass of the network.
        keep: see `Settings`.
        back_projection: see `Settings`.
        objective: what refinement minimizes.
    """

    dtype: torch.dtype
    conv_dtype: torch.dtype | None
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
        small, large = (self.exact(once, size, None) or 0 for size in (_SMALL, _WIDE))
        areas = self._padded_area(_SMALL), self._padded_area(_WIDE)
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
    alive = _Alive()
    try:
        with strip_height(rows), alive, torch.no_grad(), alive.following(meta_model):
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


class _Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all storages that operations create, while they live, on each device apart.

    `meta` is one device, so where a network was spread, its parts say as they run which device they stand for.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._here: torch.device | None = None  # None for the first, where all else is
        self._now: Counter[torch.device | None] = Counter()
        self._peaks: Counter[torch.device | None] = Counter()
        self._known: set[int] = set()

    @property
    def peak(self) -> int:
        """Of the device that has most."""
        return max(self._peaks.values(), default=0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        shapes = on_shapes(func)
        if shapes is None:
            out = func(*args, **(kwargs or {}))
        else:  # an operator of ours: what it makes beside its output counts too
            with self:
                out = shapes(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.device.type == "meta":
                storage = tensor.untyped_storage()
                if storage._cdata not in self._known:  # noqa: SLF001  its identity
                    self._known.add(storage._cdata)  # noqa: SLF001
                    self._now[self._here] += storage.nbytes()
                    self._peaks[self._here] = max(self._peaks[self._here], self._now[self._here])
                    weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes(), self._here)  # noqa: SLF001
        return out

    def _freed(self, identity: int, count: int, device: torch.device | None) -> None:
        self._known.discard(identity)
        self._now[device] -= count

    @contextmanager
    def following(self, model: Inpainter) -> Iterator[None]:
        """Count what the parts of a network that was spread create, forward and backward, for their devices."""
        parts = carried_parts(model) if isinstance(model, nn.Module) else []
        first = parts[0][1] if parts else None
        hooks: list[RemovableHandle] = []
        for part, device in parts:
            label = None if device == first else device
            hooks.append(part.register_forward_pre_hook(lambda *_, at=label: self._go(at)))
            hooks.append(part.register_forward_hook(lambda *called, at=label: self._come_back_by(called[-1], at)))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def at_home(self, run: Callable[[Any], Tensor]) -> Callable[[Any], Tensor]:
        """A function that starts on the first device."""

        def from_home(argument: Any) -> Tensor:
            self._go(None)
            return run(argument)

        return from_home

    def _go(self, device: torch.device | None) -> None:
        self._here = device

    def _come_back_by(self, output: Any, device: torch.device | None) -> None:
        """The way back through a part starts at its output."""
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor) and tensor.grad_fn is not None:
                tensor.grad_fn.register_prehook(lambda _: self._go(device))
