"""How the work is cut to fit into memory: whole, then in strips, then in smaller windows."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from refiner.byte_sizes import format_bytes, parse_bytes
from refiner.engine.memory_estimate import estimate_peak, meta_copy
from refiner.engine.padding import size_of
from refiner.engine.windows import Window, scale_windows, whole
from refiner.errors import BudgetError, Option
from refiner.frozen import strip_height
from refiner.memory import free_bytes, freed_memory_kept, is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor

    from refiner.engine.objective import ObjectiveFactory
    from refiner.models.inpainter import Inpainter
    from refiner.settings import Settings

_T = TypeVar("_T")

_SHARE_OF_FREE = 0.8  # what is left is for the rest of the machine
# What libraries allocate inside an operation and allocators keep, over the tensors counted: 1 to 1.3, and up to 1.5
# where convolutions in bfloat16 add up in float32.
_OVERHEAD, _OVERHEAD_OF_BFLOAT16 = 1.25, 1.35
_IMAGE_BYTES = 80  # for each pixel of the photo: its pyramid, composites and masks, in float32
_COPY_BYTES = (
    260  # for each pixel of the photo where it is filled by copying; 183 and 259 measured at 4K, more for large holes
)
_STRIPS = (None, 1024, 512, 256, 128)
# On a CPU only these and lower ones: half of the memory, for no more time in bfloat16 and up to a tenth in float32.
_ON_CPU = 256
_CONTEXTS = (1.0, 0.5, 0.25)  # of the setting


@dataclass(frozen=True)
class Plan:
    """How an image will be refined.

    Attributes:
        windows: where at full size; one window that is all of it where it is refined as a whole.
        image_size: height and width at full size.
        context: margin of windows, see `Settings`.
        strip_height: image rows that the network's full-resolution ends compute at once; None for all.
        conv_dtype: precision of convolutions; None for the image's.
        bytes: predicted peak, on the device that has most; None where the network does not run without data.
        budget: bytes it may take on a device.
        network: whether a network is run; otherwise the hole is filled by copying alone.
        areas: pixels that a prediction covers at each scale, the smallest first; none where no network is run.
    """

    windows: tuple[Window, ...]
    image_size: tuple[int, int]
    context: float
    strip_height: int | None
    conv_dtype: torch.dtype | None
    bytes: int | None
    budget: int
    network: bool = True
    areas: tuple[int, ...] = ()

    def __str__(self) -> str:
        """The plan in one line."""
        if not self.network:
            height, width = self.image_size
            need = f"about {format_bytes(self.bytes or 0)} of {format_bytes(self.budget)}"
            return f"copies within the photo, {width}x{height}, without a network; {need}"
        height, width = max(self.windows, key=lambda window: window.area).size
        count = len(self.windows)
        where = f"one window of {width}x{height}" if count == 1 else f"{count} windows, the largest {width}x{height}"
        if self.windows[0].area == self.image_size[0] * self.image_size[1]:
            where = f"the whole picture, {width}x{height}, at once"
        strips = "" if self.strip_height is None else f", in strips of {self.strip_height} rows"
        precision = "" if self.conv_dtype is None else f", {str(self.conv_dtype).removeprefix('torch.')} convolutions"
        need = (
            "memory need unknown"
            if self.bytes is None
            else f"about {format_bytes(self.bytes)} of {format_bytes(self.budget)}"
        )
        return f"{where}{strips}{precision}; {need}"


def copying_plan(image: Tensor, settings: Settings) -> Plan:
    """The plan where a hole is filled by copying, which takes no more than reading the photo a few times over."""
    size = image.shape[-2], image.shape[-1]
    budget = memory_for((torch.device("cpu"),)) if settings.memory is None else parse_bytes(settings.memory)
    need = image.shape[0] * size[0] * size[1] * _COPY_BYTES
    return Plan((whole(image),), size, settings.context, None, None, need, budget, network=False)


class Planner:
    """Chooses the first plan that fits, and runs work by it.

    Args:
        model: the network.
        image: (N,3,H,W), at the full size of the work.
        holes: (N,1,h,w), bool, of each scale, the smallest first.
        settings: of the refinement; `memory` is the budget.
        conv_dtype: precision of convolutions.
        objective: what refinement minimizes.
        on_plan: called with the plan, and with each that replaces it.
        devices: those that the network was spread over; none for the image's alone.

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
        objective: ObjectiveFactory,
        on_plan: Callable[[Plan], object],
        *,
        devices: Sequence[torch.device] = (),
    ) -> None:
        self._devices = devices or (image.device,)
        self._on_plan = on_plan
        self._image_bytes = _IMAGE_BYTES * image.shape[0] * image.shape[2] * image.shape[3]
        budget = memory_for(self._devices) if settings.memory is None else parse_bytes(settings.memory)

        def plans(conv_dtype: torch.dtype | None) -> Iterator[Plan]:
            return _plans(model, image, holes, settings, conv_dtype, objective, budget)

        self._plans_in = plans
        self.replan(conv_dtype)

    def replan(self, conv_dtype: torch.dtype | None) -> None:
        """Choose anew, for convolutions in another precision; None for the image's.

        Raises:
            BudgetError: nothing fits.
        """
        self._plans = self._plans_in(conv_dtype)
        self.plan = self._next()

    def run(self, work: Callable[..., _T], *args: Any) -> _T:
        """Call `work(plan, *args)`; where it runs out of memory after all, again by the next plan."""
        while True:
            try:
                with strip_height(self.plan.strip_height), self._memory_kept():
                    return work(self.plan, *args)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            for kind in {device.type for device in self._devices} & {"cuda", "mps"}:
                getattr(torch, kind).empty_cache()
            self.plan = self._next()

    def _memory_kept(self) -> AbstractContextManager[None]:
        """Where all is computed in the machine's own memory, what is freed is kept, within what was predicted."""
        if any(device.type != "cpu" for device in self._devices):
            return nullcontext()
        need = self.plan.budget if self.plan.bytes is None else self.plan.bytes
        return freed_memory_kept(max(need - self._image_bytes, 0))  # the photo's part is there before

    def _next(self) -> Plan:
        least: int | None = None
        for plan in self._plans:
            if plan.bytes is None or plan.bytes <= plan.budget:
                self._on_plan(plan)
                return plan
            least = plan.bytes if least is None else min(least, plan.bytes)
        enough = f"; the least that would is about {format_bytes(least)}" if least is not None else ""
        raise BudgetError(
            f"memory: what there is does not suffice{enough}. Give more with ",
            Option("memory"),
            ", close other programs, mark a smaller hole, or use ",
            Option("windows", "auto"),
            ".",
        )


def _plans(
    model: Inpainter,
    image: Tensor,
    holes: list[Tensor],
    settings: Settings,
    conv_dtype: torch.dtype | None,
    objective: ObjectiveFactory,
    budget: int,
) -> Iterator[Plan]:
    """Plans in the order they are tried, each needing less than the one before."""
    need = _Need(model, image, conv_dtype, settings, objective)
    smallest = whole(holes[0])
    for context, scales, largest in _cuts(holes, model, settings):
        tallest = max(smallest.size[0], largest.size[0] if largest is not None else 0)
        for rows in _strip_heights(tallest, image.device) if model.spec.strips else (None,):
            peak = need.of(smallest, largest, rows)
            windows = scales[-1]
            areas = tuple(sum(window.area for window in each) for each in scales)
            yield Plan(windows, size_of(image), context, rows, conv_dtype, peak, budget, areas=areas)


def _strip_heights(tallest: int, device: torch.device) -> list[int | None]:
    """Heights of strips to try, the first best, for windows of so many rows; None for no strips."""
    lower = [rows for rows in _STRIPS if rows is None or rows < tallest]
    if device.type == "cpu" and tallest > _ON_CPU:
        return [rows for rows in lower if rows is not None and rows <= _ON_CPU]
    return lower


def _cuts(
    holes: list[Tensor], model: Inpainter, settings: Settings
) -> Iterator[tuple[float, list[tuple[Window, ...]], Window | None]]:
    """Different ways to cut: the context, the windows of each scale, and the largest of all but the smallest scale."""
    seen: set[tuple[Window | None, tuple[Window, ...]]] = set()
    for share in _CONTEXTS:
        context = settings.context * share
        larger = [scale_windows(hole, model.spec, settings.windows, context) for hole in holes[1:]]
        scales = [(whole(holes[0]),), *larger]
        # Windows that are disjoint at full size can be one at a smaller scale: the largest of any scale counts.
        largest = max((window for scale in larger for window in scale), key=lambda window: window.area, default=None)
        if (largest, scales[-1]) not in seen:
            seen.add((largest, scales[-1]))
            yield context, scales, largest


class _Need:
    """Bytes that a way to work needs; None where the network does not run without data."""

    def __init__(
        self,
        model: Inpainter,
        image: Tensor,
        conv_dtype: torch.dtype | None,
        settings: Settings,
        objective: ObjectiveFactory,
    ) -> None:
        self._empty = meta_copy(model)
        self._image, self._conv_dtype, self._settings, self._objective = image, conv_dtype, settings, objective

    def of(self, smallest: Window, largest: Window | None, rows: int | None) -> int | None:
        """For one pass over the smallest scale and the refinement of the largest window, in strips of `rows`."""
        peaks = [self._peak(smallest, None, rows)]
        if largest is not None:
            peaks.append(self._peak(largest, self._settings, rows))
        known = [peak for peak in peaks if peak is not None]
        if len(known) < len(peaks):
            return None
        batch, _, height, width = self._image.shape
        overhead = _OVERHEAD if self._conv_dtype is None else _OVERHEAD_OF_BFLOAT16
        return int(overhead * max(known)) + _IMAGE_BYTES * batch * height * width

    def _peak(self, window: Window, settings: Settings | None, rows: int | None) -> int | None:
        if self._empty is None:
            return None
        return estimate_peak(
            self._empty,
            window,
            batch=self._image.shape[0],
            dtype=self._image.dtype,
            conv_dtype=self._conv_dtype,
            strip_rows=rows,
            settings=settings,
            objective=self._objective,
        )


def memory_for(devices: Sequence[torch.device], share: float = 1) -> int:
    """Bytes that work may take on each of the devices: most of what is free, or a share of that for one of several."""
    return int(min(free_bytes(device) for device in devices) * _SHARE_OF_FREE * share)
