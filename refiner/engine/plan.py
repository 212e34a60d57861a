"""How much memory a refinement will need, and the plan that fits into what there is.

The peak is predicted by a rehearsal: one update of the largest window on PyTorch's `meta` device, which knows shapes
and computes nothing, counting the bytes of all tensors alive. So it holds for any network that runs there.
"""

from __future__ import annotations

import copy
import weakref
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from refiner.engine.objective import Objective
from refiner.engine.optimize import update
from refiner.engine.windows import Window, find_windows, whole
from refiner.errors import BudgetError
from refiner.frozen import FrozenGradients
from refiner.memory import format_bytes, free_bytes, is_out_of_memory, parse_bytes
from refiner.models.inpainter import Inpainter, padded_size, train_size, widened
from refiner.models.placement import placed_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from refiner.settings import Settings

_T = TypeVar("_T")

_SHARE_OF_FREE = 0.8  # what is left is for the rest of the machine
_OVERHEAD = 1.25  # what libraries allocate inside an operation and allocators keep, over the tensors counted
_PICTURE_BYTES = 80  # for each pixel of the photo: its pyramid, composites and masks, in float32
_WORTH_IT = 0.8  # windows that cover more of a picture than this save too little to give up its context
_STRIPS = (None, 1024, 512, 256, 128)
_CONTEXTS = (1.0, 0.5, 0.25)  # of the setting


@dataclass(frozen=True)
class Plan:
    """How a picture will be refined.

    Attributes:
        windows: where at full size; one window that is all of it where it is refined as a whole.
        picture_size: height and width at full size.
        context: margin of windows, see `Settings`.
        strip_height: picture rows that the network's full-resolution ends compute at once; None for all.
        conv_dtype: precision of convolutions; None for the picture's.
        bytes: predicted peak; None where the network cannot be rehearsed.
        budget: bytes it may take.
    """

    windows: tuple[Window, ...]
    picture_size: tuple[int, int]
    context: float
    strip_height: int | None
    conv_dtype: torch.dtype | None
    bytes: int | None
    budget: int

    def __str__(self) -> str:
        """The plan in one line."""
        height, width = max(self.windows, key=lambda window: window.area).size
        count = len(self.windows)
        where = f"one window of {width}x{height}" if count == 1 else f"{count} windows, the largest {width}x{height}"
        if self.windows[0].area == self.picture_size[0] * self.picture_size[1]:
            where = f"the whole picture, {width}x{height}, at once"
        strips = "" if self.strip_height is None else f", in strips of {self.strip_height} rows"
        precision = "" if self.conv_dtype is None else f", {str(self.conv_dtype).removeprefix('torch.')} convolutions"
        need = (
            "memory need unknown"
            if self.bytes is None
            else f"about {format_bytes(self.bytes)} of {format_bytes(self.budget)}"
        )
        return f"{where}{strips}{precision}; {need}"


class Planner:
    """Chooses the first plan that fits: whole, then in strips, then in smaller windows; and runs work by it.

    Args:
        model: the network; one that can work in strips has an attribute `strip_height`.
        image: (N,3,H,W), at the full size of the work.
        holes: (N,1,h,w), bool, of each scale, the smallest first.
        settings: what is asked for; `memory` is the budget.
        conv_dtype: precision of convolutions.
        on_plan: told of the plan, and of each that replaces it.

    Attributes:
        plan: the plan in force.

    Raises:
        BudgetError: nothing fits.
    """

    def __init__(
        self,
        model: Inpainter,
        image: Tensor,
        holes: list[Tensor],
        settings: Settings,
        conv_dtype: torch.dtype | None,
        on_plan: Callable[[Plan], object],
    ) -> None:
        if settings.memory is not None:
            budget = parse_bytes(settings.memory)
        else:
            budget = memory_for(placed_on(model) or (image.device,))
        self._model = model
        self._device = image.device
        self._on_plan = on_plan
        self._plans = _plans(model, image, holes, settings, conv_dtype, budget)
        self.plan = self._next()

    def run(self, work: Callable[..., _T], *args: Any) -> _T:
        """Call `work(plan, *args)`; where it runs out of memory after all, again by the next plan."""
        while True:
            try:
                with _strips(self._model, self.plan.strip_height):
                    return work(self.plan, *args)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            if self._device.type in ("cuda", "mps"):
                getattr(torch, self._device.type).empty_cache()
            self.plan = self._next()

    def _next(self) -> Plan:
        least: int | None = None
        for plan in self._plans:
            if plan.bytes is None or plan.bytes <= plan.budget:
                self._on_plan(plan)
                return plan
            least = plan.bytes if least is None else min(least, plan.bytes)
        enough = f"; the least that would is about {format_bytes(least)}" if least is not None else ""
        raise BudgetError(
            f"memory: what there is does not suffice{enough}. Give more with --memory, close other programs, mark a "
            "smaller hole, or use --windows auto."
        )


def _plans(
    model: Inpainter,
    image: Tensor,
    holes: list[Tensor],
    settings: Settings,
    conv_dtype: torch.dtype | None,
    budget: int,
) -> Iterator[Plan]:
    """Plans in the order they are tried, each needing less than the one before."""
    ghost = _ghost(model)
    pixels = image.shape[0] * image.shape[2] * image.shape[3]
    smallest = whole(holes[0])
    tried: set[tuple[Window, tuple[Window, ...], int | None]] = set()
    for share in _CONTEXTS:
        context = settings.context * share
        # Windows that lie apart at full size can be one at a smaller scale: the largest of any scale counts.
        scales = [scale_windows(model, hole, settings, context) for hole in holes[1:]]
        windows = scales[-1] if scales else (smallest,)
        largest = max((window for scale in scales for window in scale), key=lambda window: window.area, default=None)
        for rows in _STRIPS if hasattr(model, "strip_height") else _STRIPS[:1]:
            height = max(smallest.size[0], largest.size[0] if largest is not None else 0)
            if (largest or smallest, windows, rows) in tried or (rows is not None and rows >= height):
                continue
            tried.add((largest or smallest, windows, rows))
            tensors = None
            if ghost is not None:
                tensors = _rehearse(ghost, image, smallest, conv_dtype, rows, refined=False)
                if largest is not None and tensors is not None:
                    refining = _rehearse(ghost, image, largest, conv_dtype, rows, refined=True)
                    tensors = None if refining is None else max(tensors, refining)
            need = None if tensors is None else int(_OVERHEAD * tensors) + _PICTURE_BYTES * pixels
            yield Plan(windows, (image.shape[2], image.shape[3]), context, rows, conv_dtype, need, budget)


def can_rehearse(model: Inpainter) -> bool:
    """Whether a model's need of memory can be predicted: whether it runs on PyTorch's `meta` device."""
    ghost = _ghost(model)
    if ghost is None:
        return False
    side = padded_size(model, train_size(model), train_size(model))
    window = whole(torch.zeros(1, 1, *side, dtype=torch.bool))
    return _rehearse(ghost, torch.zeros(1, 3, 1, 1), window, None, None, refined=True) is not None


@contextmanager
def _strips(model: Inpainter, rows: int | None) -> Iterator[None]:
    """Have a network that can work in strips do so, for a while."""
    if not hasattr(model, "strip_height"):
        yield
        return
    before = model.strip_height
    model.strip_height = rows
    try:
        yield
    finally:
        model.strip_height = before


def scale_windows(model: Inpainter, hole: Tensor, settings: Settings, context: float) -> tuple[Window, ...]:
    """Windows around the holes of a scale, or all of it where that is hardly more."""
    everything = whole(hole)
    if settings.windows == "off":
        return (everything,)
    windows = find_windows(hole, context=context, least=train_size(model), multiple=model.multiple)
    worth_it = sum(window.area for window in windows) < _WORTH_IT * everything.area
    return tuple(windows) if windows and worth_it else (everything,)


def memory_for(devices: Sequence[torch.device], share: float = 1) -> int:
    """Bytes that work on the devices may take: most of what is free, or a share of that for one of several workers."""
    # What is kept is shared about evenly by the devices.
    return int(min(free_bytes(device) for device in devices) * len(devices) * _SHARE_OF_FREE * share)


def _rehearse(
    ghost: Inpainter,
    image: Tensor,
    window: Window,
    conv_dtype: torch.dtype | None,
    strip_height: int | None,
    *,
    refined: bool,
) -> int | None:
    """Bytes of all tensors at the peak of one update, or of one pass; None where it does not run without data."""
    batch, (height, width) = image.shape[0], window.size
    size = padded_size(ghost, height, width)
    with torch.device("meta"):
        picture = torch.empty(batch, 3, *size, dtype=image.dtype)
        mask = torch.empty(batch, 1, *size, dtype=image.dtype)
        objective = Objective(
            picture,
            torch.empty(batch, 1, *size, dtype=torch.bool),
            torch.empty(batch, 3, height // 2, width // 2, dtype=image.dtype),
            torch.empty(batch, 1, height // 2, width // 2, dtype=torch.bool),
            (height, width),
        )
    try:
        alive = _Alive()
        with _strips(ghost, strip_height), alive, torch.no_grad():
            mode = FrozenGradients(conv_dtype)
            with mode:
                features = ghost.front(picture, mask)
                features = widened(features, image.dtype)
                if not refined:
                    ghost.rear(features)
                    return alive.peak
            leaves, structure = tree_flatten(features)
            del features
            tuned = [leaf.clone().requires_grad_() for leaf in leaves if isinstance(leaf, Tensor)]
            del leaves
            adam = torch.optim.Adam(tuned)
            for _ in range(2):  # the second time Adam's averages are there
                with torch.enable_grad():
                    with mode:
                        prediction = ghost.rear(tree_unflatten(tuned, structure)).to(image.dtype)
                    loss = objective(prediction)
                kept = prediction.detach().clone()
                update(adam, tuned, loss)
                del prediction, loss
            del kept
            return alive.peak
    except Exception:  # noqa: BLE001  any network may fail without data, in any way; then its need is unknown
        return None


class _Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all storages that operations create, while they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak: int = 0
        self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.device.type == "meta":
                storage = tensor.untyped_storage()
                if storage._cdata not in self._known:  # noqa: SLF001  its identity
                    self._known.add(storage._cdata)  # noqa: SLF001
                    self._now += storage.nbytes()
                    self.peak = max(self.peak, self._now)
                    weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())  # noqa: SLF001
        return out

    def _freed(self, identity: int, count: int) -> None:
        self._known.discard(identity)
        self._now -= count


def _ghost(model: Inpainter) -> Inpainter | None:
    """The network without its weights' data, on the `meta` device; None where it cannot be copied so."""
    if not isinstance(model, nn.Module):
        return None
    # What a module holds without registering it is left out too: LaMa keeps the network it was made from that way.
    values = [value for module in model.modules() for value in vars(module).values()]
    parts = [model, *(value for value in values if isinstance(value, nn.Module))]
    empty: dict[int, Tensor] = {id(t): torch.empty_like(t, device="meta") for t in values if isinstance(t, Tensor)}
    for part in parts:
        for parameter in part.parameters():
            empty[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
        for buffer in part.buffers():
            empty[id(buffer)] = torch.empty_like(buffer, device="meta")
    try:
        ghost: Any = copy.deepcopy(model, empty)
    except Exception:  # noqa: BLE001  a module may hold what cannot be copied, and fail in any way
        return None
    return ghost if isinstance(ghost, Inpainter) else None
