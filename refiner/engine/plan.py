"""How a photo will be filled: which scales, who fills them, and how the work is cut to fit into memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from refiner.byte_sizes import format_bytes, parse_bytes
from refiner.engine import pyramid
from refiner.engine.memory_estimate import Work, memory_need
from refiner.engine.objective import paper_objective
from refiner.engine.precision import conv_dtype, uses_tf32
from refiner.engine.windows import CONTEXT, merged, scale_windows
from refiner.errors import BudgetError, Option
from refiner.exemplar import MENDED, level_count
from refiner.frozen.emulation import is_emulated
from refiner.memory import free_bytes
from refiner.regions import Window, whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from refiner.detail import Detail
    from refiner.engine.objective import ObjectiveFactory
    from refiner.models.inpainter import Inpainter
    from refiner.models.spec import ModelSpec
    from refiner.regions import HoleBoxes
    from refiner.settings import Settings, Start

_SHARE_OF_FREE = 0.8  # what is left is for the rest of the machine
# What libraries allocate inside an operation and allocators keep, over the tensors counted: 1 to 1.3, and up to 1.5
# where convolutions in bfloat16 add up in float32.
_OVERHEAD, _OVERHEAD_OF_BFLOAT16 = 1.25, 1.45
_KEPT = 2  # the C library, where it keeps freed memory, may hold so many times the memory in use
_SURELY_FITS = 1 / 3  # of the budget: what needs less by estimate is not rehearsed at its own size
# For each pixel of the photo: its pyramid, composites and masks, in float32; and what finishes a network's fill.
_PHOTO_BYTES, _FINISH_BYTES = 44, 36
# Of copies: to choose them, for each pixel of the photo, up to a number, or of the smallest level, where that is more;
# to mend them, for each pixel of the largest level that is mended; and for each pixel of the hole.
_CHOOSE_BYTES, _CHOOSE_MOST, _CHOOSE_LEVEL_BYTES, _MEND_BYTES, _HOLE_BYTES = 400, 180_000_000, 1500, 120, 250
_STRIPS = (None, 1024, 512, 256, 128)
# On a CPU only these and lower ones: half of the memory, for no more time in bfloat16 and up to a tenth in float32.
_ON_CPU = 256
_SHRUNK = (1.0, 0.5, 0.25)  # margins of windows, in terms of what they should be
_MOSTLY_HOLE = 0.9  # of a photo: copies of the rest, over and over, are no picture
_COPY_MARGIN = 1.0  # of a window that is copied within, as a share of the hole's longer side
_LEAST_COPY_MARGIN = 128  # pixels
_GUIDE_ENLARGED = 1.25  # by how much a given fill may be enlarged to the smallest scale


@dataclass(frozen=True)
class Plan:
    """How a photo will be filled.

    Attributes:
        sizes: height and width of each scale, the smallest first.
        levels: of the pyramid; those that are more than scales are smaller, for copies alone.
        start: who fills the smallest scale; `guide` for a fill that was given.
        detail: what fills the larger scales.
        scale_windows: where the network works at each scale, the smallest first; none where it is not run.
        copy_windows: the parts of the photo, at full size, within which its holes are filled by copying; none where
            nothing is copied.
        strip_height: image rows that the network's full-resolution ends compute at once; None for all.
        conv_dtype: precision of convolutions; None for the image's.
        tf32: whether float32 is multiplied in TF32.
        bytes: predicted peak, on the device that has most; None where the network does not run without data.
        budget: bytes it may take on a device.
        attempt: how many other plans were tried before, each needing more memory.
        mostly_hole: whether the network fills what copies would, as next to nothing is there to be copied.
    """

    sizes: tuple[tuple[int, int], ...]
    levels: int
    start: Start | str
    detail: Detail
    scale_windows: tuple[tuple[Window, ...], ...]
    copy_windows: tuple[Window, ...]
    strip_height: int | None
    conv_dtype: torch.dtype | None
    tf32: bool
    bytes: int | None
    budget: int
    attempt: int = 0
    mostly_hole: bool = False

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width at full size."""
        return self.sizes[-1]

    @property
    def network(self) -> bool:
        """Whether the network is run."""
        return bool(self.scale_windows)

    @property
    def windows(self) -> tuple[Window, ...]:
        """Where the work is done at full size."""
        return self.scale_windows[-1] if self.network else self.copy_windows

    @property
    def work_bytes(self) -> int:
        """Bytes that the network's work may take, beside what the photo takes itself."""
        photo = (_PHOTO_BYTES + _FINISH_BYTES) * _pixels(self.image_size)
        return max((self.budget if self.bytes is None else self.bytes) - photo, 0)

    @property
    def roomy(self) -> bool:
        """Whether there is memory enough for freed memory to be kept, which is as much again."""
        return self.bytes is not None and _KEPT * self.bytes <= self.budget

    @property
    def areas(self) -> tuple[int, ...]:
        """Pixels that a prediction covers at each scale, the smallest first; none where the network is not run."""
        return tuple(sum(window.area for window in windows) for windows in self.scale_windows)

    def __str__(self) -> str:
        """The plan in one line."""
        height, width = self.image_size
        need = "memory need unknown"
        if self.bytes is not None:
            need = f"about {format_bytes(self.bytes)} of {format_bytes(self.budget)}"
        largest_height, largest_width = max(self.windows, key=lambda window: window.area).size
        count = len(self.windows)
        where = f"one window of {largest_width}x{largest_height}"
        if count > 1:
            where = f"{count} windows, the largest {largest_width}x{largest_height}"
        everything = self.windows == (whole(self.image_size),)
        if not self.network:
            within = f"{width}x{height}" if everything else where
            return f"copies within the photo, {within}, without a network; {need}"
        if everything:
            where = f"the whole picture, {width}x{height}, at once"
        if self.mostly_hole:
            where += ", by the network: the hole is too large to copy into"
        strips = "" if self.strip_height is None else f", in strips of {self.strip_height} rows"
        precision = ", TF32 convolutions" if self.tf32 else ""
        if self.conv_dtype is not None:
            precision = f", {str(self.conv_dtype).removeprefix('torch.')} convolutions"
        return f"{where}{strips}{precision}; {need}"


def make_plan(
    hole: HoleBoxes,
    model: Inpainter,
    settings: Settings,
    *,
    guide: tuple[int, int] | bool = False,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    budget: int | None = None,
    devices: Sequence[torch.device] = (),
    objective: ObjectiveFactory = paper_objective,
    attempt: int = 0,
) -> Plan:
    """Choose how a photo will be filled: the first way that fits into memory. No pixel of the photo is needed.

    Args:
        hole: where it lies.
        model: the network.
        settings: of the refinement; `memory` is the budget.
        guide: height and width of a fill that is given; True for one that is made of the smallest scale.
        device: where the photo is; the CPU where None.
        dtype: of the photo.
        budget: bytes that the work may take where `memory` does not say; most of what is free on the devices now where
            None.
        devices: those that the network was spread over; none for the photo's alone.
        objective: what refinement minimizes.
        attempt: how many ways that fit by the estimate are left out: those that ran out of memory after all.

    Raises:
        BudgetError: nothing fits.
        SettingsError: the device does not have the precision asked for.
    """
    device = torch.device("cpu") if device is None else device
    if settings.refine and settings.pixel_budget is not None:
        hole = hole.resized(pyramid.size_within(hole.size, settings.pixel_budget))
    start, detail = _who_fills(settings, model.spec, given=guide is not False)
    mostly_hole = (
        (start, detail) == ("exemplar", "exemplar")
        and (settings.start, settings.detail) == ("auto", "auto")
        and hole.pixels > _MOSTLY_HOLE * _pixels(hole.size)
    )
    if mostly_hole:
        start, detail = "model", "features"
    if settings.memory is not None:
        budget = parse_bytes(settings.memory)
    elif budget is None:
        budget = memory_for((devices or (device,)) if _runs_network(start, detail) else (torch.device("cpu"),))
    count = _scale_count(hole.size, model.spec, settings, guide)
    if start == "exemplar" and not _runs_network(start, detail) and settings.min_side is None:
        count = min(count, level_count(*hole.size, hole.pixels))  # smaller ones are for networks
    scales = _boxes_at_scales(hole, count)
    base = Plan(
        sizes=tuple(boxes.size for boxes in scales),
        levels=len(scales),
        start=start,
        detail=detail,
        scale_windows=(),
        copy_windows=(),
        strip_height=None,
        conv_dtype=conv_dtype(settings.precision, device, dtype),
        tf32=uses_tf32(settings.precision, device) and dtype == torch.float32,
        bytes=0,
        budget=budget,
        mostly_hole=mostly_hole,
    )
    least: int | None = None
    for plan in _ways(base, hole, scales, model, settings, device, dtype, objective):
        if plan.bytes is None or plan.bytes <= budget:
            if plan.attempt >= attempt:
                return plan
        else:
            least = plan.bytes if least is None else min(least, plan.bytes)
    enough = f"; the least that would is about {format_bytes(least)}" if least is not None else ""
    raise BudgetError(
        f"memory: what there is does not suffice{enough}. Give more with ",
        Option("memory"),
        ", close other programs, mark a smaller hole, or use ",
        Option("windows", "auto"),
        ".",
    )


def memory_for(devices: Sequence[torch.device], share: float = 1) -> int:
    """Bytes that work may take on each of the devices: most of what is free, or a share of that for one of several."""
    return int(min(free_bytes(device) for device in devices) * _SHARE_OF_FREE * share)


def _ways(
    base: Plan,
    hole: HoleBoxes,
    scales: list[HoleBoxes],
    model: Inpainter,
    settings: Settings,
    device: torch.device,
    dtype: torch.dtype,
    objective: ObjectiveFactory,
) -> Iterator[Plan]:
    """Plans in the order they are tried, each needing less than the one before."""
    photo, copied = _PHOTO_BYTES * _pixels(hole.size), 0
    finish = _FINISH_BYTES * _pixels(hole.size)
    copies = base.detail != "features" or base.start == "exemplar"
    if copies:
        base = replace(base, levels=max(len(scales), level_count(*hole.size, hole.pixels)))
        for within, copied in _copy_cuts(hole, base.levels):
            base = replace(base, copy_windows=within, bytes=photo + copied)
            if photo + copied <= base.budget:
                break
            yield base
        else:
            return
    if not _runs_network(base.start, base.detail):
        yield base
        return
    need = _NetworkNeed(model, settings, dtype, base.conv_dtype, device, objective, base.budget - photo - finish)
    attempt = 0
    for windows, rows in _network_cuts(scales, model.spec, settings, device):
        network = need.of(windows, rows)
        most = None if network is None else photo + max(finish + network, copied)
        yield replace(base, scale_windows=windows, strip_height=rows, bytes=most, attempt=attempt)
        attempt += most is None or most <= base.budget


def _who_fills(settings: Settings, spec: ModelSpec, *, given: bool) -> tuple[Start | str, Detail]:
    """Who fills the smallest scale, and what fills the larger ones."""
    if not settings.refine:
        return "model", "features"
    detail, start = settings.detail, settings.start
    if detail == "auto":
        # A fill that was given is followed, which copying alone does not.
        detail = "both" if given and spec.detail == "exemplar" else spec.detail
    if given:
        return "guide", detail
    if start == "auto" and detail != "auto":
        start = "exemplar" if detail == "exemplar" else "model"
    return start, detail


def _runs_network(start: Start | str, detail: Detail) -> bool:
    return detail in ("features", "auto") or start in ("model", "auto")


def _scale_count(size: tuple[int, int], spec: ModelSpec, settings: Settings, guide: tuple[int, int] | bool) -> int:
    if not settings.refine:
        return 1
    if not isinstance(guide, bool):
        # The smallest scale is about the guide's size, so that nothing of it is lost.
        count, side = 1, size[0]
        while side > _GUIDE_ENLARGED * guide[0]:
            count, side = count + 1, side // 2
        return count
    return pyramid.scale_count(*size, settings.min_side or spec.train_size, settings.max_scales)


def _boxes_at_scales(hole: HoleBoxes, count: int) -> list[HoleBoxes]:
    scales = [hole]
    for _ in range(count - 1):
        scales.append(scales[-1].halved())
    return scales[::-1]


def _network_cuts(
    scales: list[HoleBoxes], spec: ModelSpec, settings: Settings, device: torch.device
) -> Iterator[tuple[tuple[tuple[Window, ...], ...], int | None]]:
    """Windows of each scale, and rows of a strip, in the order they are tried."""
    seen = set()
    for share in _SHRUNK:
        larger = [
            (whole(boxes.size),) if settings.windows == "off" else scale_windows(boxes, spec, CONTEXT * share)
            for boxes in scales[1:]
        ]
        windows = ((whole(scales[0].size),), *larger)
        if windows in seen:
            continue
        seen.add(windows)
        tallest = max(window.size[0] for scale in windows for window in scale)
        for rows in _strip_heights(tallest, device) if spec.strips else [None]:
            yield windows, rows


def _strip_heights(tallest: int, device: torch.device) -> list[int | None]:
    """Heights of strips to try, the first best, for windows of so many rows; None for no strips."""
    lower = [rows for rows in _STRIPS if rows is None or rows < tallest]
    if device.type == "cpu" and tallest > _ON_CPU:
        return [rows for rows in lower if rows is not None and rows <= _ON_CPU]
    return lower


class _NetworkNeed:
    """Bytes that a way to run the network needs; None where it does not run without data."""

    def __init__(
        self,
        model: Inpainter,
        settings: Settings,
        dtype: torch.dtype,
        precision: torch.dtype | None,
        device: torch.device,
        objective: ObjectiveFactory,
        room: int,
    ) -> None:
        self._need = memory_need(model)
        self._overhead = _OVERHEAD if precision is None else _OVERHEAD_OF_BFLOAT16
        self._room = room
        self._refined = Work(
            dtype,
            precision,
            emulated=is_emulated(precision, device),
            keep=settings.keep,
            back_projection=settings.back_projection,
            objective=objective,
        )

    def of(self, windows: tuple[tuple[Window, ...], ...], rows: int | None) -> int | None:
        """For one pass over the smallest scale and the refinement of the largest window, in strips of `rows`."""
        (smallest,), *larger = windows
        largest = max((window for scale in larger for window in scale), key=lambda window: window.area, default=None)
        works = [(replace(self._refined, refined=False), smallest)]
        works += [] if largest is None else [(self._refined, largest)]
        peaks = [self._peak(work, window.size, rows) for work, window in works]
        known = [peak for peak in peaks if peak is not None]
        return max(known) if len(known) == len(peaks) else None

    def _peak(self, work: Work, size: tuple[int, int], rows: int | None) -> int | None:
        about = self._need.about(work, size, rows)
        if about is not None and self._overhead * about <= _SURELY_FITS * self._room:
            return int(self._overhead * about)
        peak = self._need.exact(work, size, rows)
        return None if peak is None else int(self._overhead * peak)


def _copy_cuts(hole: HoleBoxes, levels: int) -> Iterator[tuple[tuple[Window, ...], int]]:
    """The parts of a photo that are copied within, and bytes for it, in the order they are tried."""
    everything = whole(hole.size)
    yield (everything,), _copy_need(everything, hole.pixels, levels)
    seen: set[tuple[Window, ...]] = {(everything,)}
    step = 1 << (levels - 1)  # windows of the smaller levels lie on the same pixels
    for share in _SHRUNK:
        around = (
            box.grown(max(int(share * _COPY_MARGIN * max(box.size)), _LEAST_COPY_MARGIN), hole.size)
            for box in hole.boxes
        )
        windows = tuple(merged(window.aligned(step, hole.size) for window in around))
        if windows not in seen:
            seen.add(windows)
            yield windows, max(_copy_need(window, min(hole.pixels, window.area), levels) for window in windows)


def _copy_need(window: Window, hole_pixels: int, levels: int) -> int:
    """Bytes that it takes to fill a hole within a window by copying, beside the photo's own."""
    mended = window.area
    while mended > MENDED:
        mended //= 4
    level = window.area >> 2 * (levels - 1)
    chosen = max(min(_CHOOSE_BYTES * window.area, _CHOOSE_MOST), _CHOOSE_LEVEL_BYTES * level)
    return max(chosen, _MEND_BYTES * mended) + _HOLE_BYTES * hole_pixels


def _pixels(size: tuple[int, int]) -> int:
    return size[0] * size[1]
