"""How much memory a window will take: its refinement, run on shapes alone.

PyTorch's `meta` device knows shapes and computes nothing. The very code that refines is run there, on a copy of the
network without data, and the bytes of all tensors alive are counted. So the estimate holds for any network that runs
there, and cannot drift from the work.
"""

from __future__ import annotations

import weakref
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from refiner.engine.back_projection import follow_guide
from refiner.engine.objective import Target, paper_objective
from refiner.engine.optimize import descend
from refiner.engine.windows import Window, whole
from refiner.errors import ModelError
from refiner.frozen import FrozenGradients, strip_height
from refiner.models.inpainter import Inpainter, encode, predict
from refiner.models.placement import carried_parts
from refiner.models.private import copy_with
from refiner.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch.utils.hooks import RemovableHandle

    from refiner.engine.objective import ObjectiveFactory

_STEPS = 3  # after the second update Adam's averages are there, and the third prediction is made beside them


def estimate_peak(
    meta_model: Inpainter,
    window: Window,
    *,
    batch: int,
    dtype: torch.dtype,
    conv_dtype: torch.dtype | None,
    strip_rows: int | None,
    settings: Settings | None,
    objective: ObjectiveFactory = paper_objective,
) -> int | None:
    """Bytes of all tensors at the peak of one window's work; None where the network does not run without data.

    Of a network that lies on several devices, those of the device that has most.

    Args:
        meta_model: what `meta_copy` gave.
        window: its size counts.
        batch: images side by side.
        dtype: of the image.
        conv_dtype: precision of convolutions; None for the image's.
        strip_rows: rows that the network's ends compute at once; None for all.
        settings: of the refinement; None for one pass without it.
        objective: what refinement minimizes.
    """
    height, width = window.size
    padded = meta_model.spec.padded_size(height, width)
    with torch.device("meta"):
        image = torch.empty(batch, 3, *padded, dtype=dtype)
        hole = torch.empty(batch, 1, *padded, dtype=torch.bool)
        guide = torch.empty(batch, 3, height // 2, width // 2, dtype=dtype)
    alive = _Alive()
    try:
        with strip_height(strip_rows), alive, torch.no_grad(), alive.following(meta_model):
            with FrozenGradients(conv_dtype):
                start = [encode(meta_model, image, hole)]
                if settings is None:
                    predict(meta_model, start.pop(), image)
                    return alive.peak
            target = Target(image, hole, guide, (height, width))
            loss = objective(target, settings)
            found = descend(
                alive.at_home(lambda features: predict(meta_model, features, image)),
                start.pop,  # handed over, as the work itself does
                alive.at_home(loss),
                steps=_STEPS,
                lr=1.0,
                keep=settings.keep,
                conv_dtype=conv_dtype,
            )
            if settings.back_projection:
                follow_guide(found.prediction, found.loss, target, loss, settings)
    except ModelError:  # any network may need data, and fail in any way without
        return None
    return alive.peak


def can_estimate(model: Inpainter) -> bool:
    """Whether a model's need of memory can be predicted."""
    empty = meta_copy(model)
    if empty is None:
        return False
    side = model.spec.train_size
    window = whole(torch.empty(1, 1, *model.spec.padded_size(side, side), device="meta"))
    peak = estimate_peak(
        empty, window, batch=1, dtype=torch.float32, conv_dtype=None, strip_rows=None, settings=Settings()
    )
    return peak is not None


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
        out = func(*args, **(kwargs or {}))
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
