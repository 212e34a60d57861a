"""The paper's algorithm: inpaint the smallest scale, then refine from coarse to fine.

Source: "Feature Refinement to Improve High Resolution Image Inpainting", arXiv 2206.13644.
"""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from refiner.engine import pyramid
from refiner.engine.back_projection import follow_guide
from refiner.engine.finishing import finished
from refiner.engine.objective import ObjectiveFactory, Target, paper_objective
from refiner.engine.optimize import OnStep, Outcome, StopRefinement, optimize_features
from refiner.engine.padding import crop, pad, pad_to_even, size_of
from refiner.engine.plan import Plan, Planner, copying_plan
from refiner.engine.precision import conv_dtype
from refiner.engine.reporter import Reporter, duration
from refiner.engine.result import Progress, Result, ScaleResult, WindowResult
from refiner.engine.sources import Fill, Sources
from refiner.engine.windows import scale_windows, shares, whole
from refiner.errors import InputError, ModelError, RefinerWarning
from refiner.exemplar import level_count
from refiner.frozen import FrozenGradients
from refiner.memory import make_room
from refiner.models.features import balanced
from refiner.models.inpainter import Inpainter, encode, predict
from refiner.models.placement import placed_on
from refiner.models.private import in_float32, private
from refiner.settings import Settings
from refiner.torch_state import own_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from refiner.engine.padding import Padding
    from refiner.engine.windows import Window

_IMAGE_DIMS = 4  # N, C, H, W
_GUIDE_ENLARGED = 1.25  # by how much a guide may be enlarged to the smallest scale
_ASPECT = 0.02
_PICTURES = 8  # that back-projection has at once


def refine(
    model: Inpainter,
    image: Tensor,
    mask: Tensor,
    settings: Settings | None = None,
    progress: Callable[[Progress], object] | None = None,
    on_plan: Callable[[Plan], object] | None = None,
    *,
    on_scale: Callable[[ScaleResult], object] | None = None,
    objective: ObjectiveFactory = paper_objective,
    guide: Tensor | Callable[[Tensor, Tensor], Tensor] | None = None,
    avoid: Tensor | None = None,
) -> Result:
    """Remove what the mask covers and refine the fill at full size.

    Args:
        model: the network, on the image's device and of its dtype. A copy that shares its weights does the work, in
            eval mode; the model itself is left alone, so that threads can share it.
        image: (N,3,H,W), RGB, floating point in [0,1], on any device. Never written to. What comes in 16 bits is
            computed in float32.
        mask: (N,1,H,W), any dtype; every value above 0 is hole. What lies in the hole does not matter.
        settings: `Settings()` where None.
        progress: called after each prediction; raising `StopRefinement` ends the work early with the best
            result so far.
        on_plan: called with the way the work is cut to fit into memory, before it starts, and again where that
            changes.
        on_scale: called with each scale's result as soon as it is there, the smallest first. What it, `progress` or
            `on_plan` raises beside `StopRefinement` ends the work and reaches the caller as it is.
        objective: makes the loss that the features of a window are optimized for; the paper's unless given.
        guide: a fill made elsewhere that takes the smallest scale's place: (N,3,h,w) in [0,1], of any size and the
            image's aspect; or what makes one of the smallest scale's image and mask. It counts in the hole.
        avoid: what must not be copied into the hole; (N,1,H,W), any dtype, above 0 where that is.

    Returns:
        The filled image and what happened at each scale. Images of a batch do not influence each other,
        except that `losses` are their mean.

    Raises:
        InputError: shapes, dtypes, ranges or devices do not fit, a hole leaves nothing known, or `avoid` is given where
            nothing is copied.
        ModelError: the model fails while it runs, its prediction has the wrong shape, or NaN also in float32.
        SettingsError: the device does not have the precision asked for.
        BudgetError: the work does not fit into memory, whichever way it is cut.
    """
    settings = settings or Settings()
    hole = _checked_hole(model, image, mask)
    avoid = None if avoid is None else _checked_avoid(avoid, image)  # before the image may be shrunk
    dtype = image.dtype
    with own_state(image.device, tf32=settings.precision == "tf32"), private(model) as held:
        network = held
        image = image.detach().clone()  # ours, and usable by autograd whatever mode the caller is in
        if not hole.any():
            return Result(image, scales=(), shrunk_from=None, stopped=False, plan=None)
        if dtype in (torch.float16, torch.bfloat16):
            line = f"image: {_name(dtype)} is computed in float32, and rounded at the end."
            warnings.warn(line, RefinerWarning, stacklevel=2)
            network, image = in_float32(held), image.float()
        full_size = size_of(image)
        if settings.pixel_budget is not None and settings.refine:
            image, hole = pyramid.shrink_to_budget(image, hole, settings.pixel_budget)
        count = _scale_count(network, image, settings, guide)
        reporter = Reporter(progress, on_plan, count, settings)
        sources, levels = _sources(network, image, hole, count, settings, guide, avoid, reporter)
        work = _Work(network, settings, objective, reporter.tell)
        planner: Planner | None = None
        if sources.runs_network:
            planner = _planner(network, image, levels, settings, objective, reporter.planned, placed_on(model))
        copying = copying_plan(image, settings)
        if planner is None:
            reporter.planned(copying)

        scales: list[ScaleResult] = []
        stopped = False
        for number, (level, level_hole) in enumerate(levels, start=1):
            start = time.perf_counter()
            here = reporter.at(number, size_of(level))
            before = scales[-1].composite if scales else None
            if stopped and before is not None:
                fill = Fill(_enlarge(before, size_of(level)), stopped=True)
            else:
                fill = _filled(sources, work, planner, level, level_hole, before, here)
            prediction, stopped = fill.prediction, fill.stopped
            composite = torch.where(level_hole, prediction.clamp(0, 1), level)
            seconds = _seconds_since(start, image.device)
            scales.append(ScaleResult(size_of(level), composite, fill.windows, seconds, fill.shares))
            if on_scale is not None:
                stopped |= _asks_to_stop(on_scale, scales[-1])
        shrunk_from = full_size if size_of(image) != full_size else None
        plan = copying if planner is None else planner.plan
        return Result(composite.to(dtype), tuple(scales), shrunk_from, stopped, plan)


def _filled(
    sources: Sources,
    work: _Work,
    planner: Planner | None,
    image: Tensor,
    hole: Tensor,
    guide: Tensor | None,
    here: Progress,
) -> Fill:
    """Fill one scale; the smallest where there is no guide yet."""

    def run(step: Callable[..., Fill], *args: Any) -> Fill:
        assert planner is not None  # noqa: S101  the network is run only where it can be
        fill = _finite(planner, step, image, hole, *args, here)
        last = here.scale == here.scales
        return replace(fill, prediction=finished(fill.prediction, image, hole, work.settings, last=last))

    if guide is None:
        return sources.smallest(partial(run, work.inpaint))
    return sources.larger(here.scale - 1, guide, partial(run, work.refine_scale, guide))


def _sources(
    model: Inpainter,
    image: Tensor,
    hole: Tensor,
    count: int,
    settings: Settings,
    guide: Tensor | Callable[[Tensor, Tensor], Tensor] | None,
    avoid: Tensor | None,
    reporter: Reporter,
) -> tuple[Sources, list[tuple[Tensor, Tensor]]]:
    """What fills the scales, and image and hole of each, the smallest first."""
    detail = settings.detail
    if detail == "auto":
        # A fill that was given is followed, which copying alone does not.
        detail = "both" if guide is not None and model.spec.detail == "exemplar" else model.spec.detail
    if not settings.refine:
        detail, guide = "features", None
    copies = detail != "features" or (settings.guide == "exemplar" and settings.refine)
    if avoid is not None and not copies:
        raise InputError(
            "avoid: nothing is copied where the network alone fills the hole; leave it out, or choose another detail: "
            "exemplar, both or auto."
        )
    needed = count
    if copies:
        needed = max(count, level_count(*size_of(image), int(hole.flatten(1).sum(dim=1).amax())))
    levels = pyramid.build_pyramid(image, hole, needed)
    first = needed - count
    given = guide
    if guide is not None and not isinstance(guide, Tensor):
        smallest, smallest_hole = levels[first]
        given = guide(smallest, smallest_hole.to(smallest))
    if given is not None:
        assert isinstance(given, Tensor)  # noqa: S101  one of the two
        given = _checked_guide(given, image)
    sources = Sources(
        levels,
        first,
        detail=detail,
        guide=settings.guide if settings.refine else "model",
        given=given,
        avoid=avoid,
        seed=settings.seed,
        on_step=reporter.step,
    )
    return sources, levels[first:]


def _planner(
    model: Inpainter,
    image: Tensor,
    levels: list[tuple[Tensor, Tensor]],
    settings: Settings,
    objective: ObjectiveFactory,
    on_plan: Callable[[Plan], object],
    devices: tuple[torch.device, ...],
) -> Planner:
    return Planner(
        model,
        image,
        [level_hole for _, level_hole in levels],
        settings,
        conv_dtype(settings.precision, image.device, image.dtype),
        objective,
        on_plan,
        devices=devices,
    )


@dataclass(frozen=True)
class _Work:
    """What is done at a scale, by a plan."""

    model: Inpainter
    settings: Settings
    objective: ObjectiveFactory
    progress: Callable[[Progress], object] | None

    def inpaint(self, plan: Plan, image: Tensor, hole: Tensor, here: Progress) -> Fill:
        """One full pass of the network, without refinement."""
        # Where they do not refine, the authors pad this one pass by mirroring at the outer edge.
        padded, padded_hole = self._padded(image, hole, "reflect" if self.settings.refine else "symmetric")
        with FrozenGradients(plan.conv_dtype):
            prediction = predict(self.model, encode(self.model, padded, padded_hole), padded)
        stopped = self.progress is not None and _asks_to_stop(self.progress, here)
        return Fill(crop(prediction, image), stopped=stopped, shares={"model": 1.0})

    def refine_scale(self, plan: Plan, image: Tensor, hole: Tensor, guide: Tensor, here: Progress) -> Fill:
        """Refine a scale window by window, so that each agrees with the previous scale's composite."""
        full = image
        windows = self._windows(hole, plan)
        if windows != (whole(hole),):
            # A window is compared with the guide at exactly half its size, which an odd image's guide is not.
            guide = pyramid.exactly_half(guide, size_of(image))
            image, hole = pad_to_even(image), pad_to_even(hole)
            windows = self._windows(hole, plan)
        prediction = _enlarge(guide, size_of(image))  # stays where a stop leaves a window unrefined
        results: list[WindowResult] = []
        area, before = sum(window.area for window in windows), 0
        for index, window in enumerate(windows, start=1):
            outcome, corrected = self._refine_window(
                plan,
                window.of(image),
                window.of(hole),
                window.halved().of(guide),
                self._on_step(replace(here, window=index, windows=len(windows)), before / area, window.area / area),
                self.settings.steps_at(here.scale - 2),
            )
            before += window.area
            drawn = window.of(prediction)
            share = shares(windows, index - 1, size_of(image)).to(drawn)
            drawn.copy_(torch.lerp(drawn, outcome.prediction, share))
            results.append(WindowResult(window, outcome.losses, outcome.kept, corrected))
            if outcome.stopped:
                break
        return Fill(crop(prediction, full), tuple(results), outcome.stopped, {"features": 1.0})

    def _refine_window(
        self, plan: Plan, image: Tensor, hole: Tensor, guide: Tensor, on_step: OnStep | None, steps: int
    ) -> tuple[Outcome, float | None]:
        """Optimize the features until the prediction agrees with the guide.

        Returns:
            What that gave, cropped; and the loss after back-projection where that changed something.
        """
        model, settings = self.model, self.settings
        padded, padded_hole = self._padded(image, hole, "reflect")
        with FrozenGradients(plan.conv_dtype):
            start = [encode(model, padded, padded_hole)]
        target = Target(padded, padded_hole, guide, size_of(image))
        objective = self.objective(target, settings)
        lr_scale = settings.lr_scale if settings.lr_scale is not None else model.spec.lr_scale
        outcome = optimize_features(
            rear=lambda features: predict(model, features, padded),
            start=start.pop,  # handed over: Adam soon has other features, and these are freed
            objective=objective,
            steps=steps,
            lr=settings.lr or model.spec.learning_rate,
            keep=settings.keep,
            min_gain=settings.min_gain,
            on_step=on_step,
            conv_dtype=plan.conv_dtype,
            lr_scale=balanced(start[0], lr_scale, settings.balance, model.spec.local_global),
        )
        prediction, corrected = outcome.prediction, None
        if settings.back_projection:
            make_room(_PICTURES * prediction.nbytes)
            prediction, loss, taken = follow_guide(prediction, outcome.loss, target, objective, settings)
            corrected = float(loss.mean()) if taken.any() else None
        return replace(outcome, prediction=crop(prediction, image)), corrected

    def _windows(self, hole: Tensor, plan: Plan) -> tuple[Window, ...]:
        return scale_windows(hole, self.model.spec, self.settings.windows, plan.context)

    def _padded(self, image: Tensor, hole: Tensor, padding: Padding) -> tuple[Tensor, Tensor]:
        size = self.model.spec.padded_size(*size_of(image))
        return pad(image, size, padding), pad(hole, size, padding)

    def _on_step(self, here: Progress, before: float, share: float) -> OnStep | None:
        """Tells of each prediction of a window, given the share of the scale before it and its own."""
        progress = self.progress
        if progress is None:
            return None

        def tell(step: int, loss: float, steps: int) -> None:
            # An update follows each prediction but the last.
            done = before + share * duration(step + 1) / duration(steps)
            progress(replace(here, step=step + 1, steps=steps, loss=loss, scale_done=done))

        return tell


def _finite(planner: Planner, work: Callable[..., Fill], image: Tensor, *args: Any) -> Fill:
    """Run the work of one scale; where it gives NaN or infinity, once more with all convolutions in float32."""
    fill = planner.run(work, image, *args)
    if _is_finite(fill):
        return fill
    size = f"{image.shape[3]}x{image.shape[2]}"
    before = planner.plan.conv_dtype
    if before is not None:
        line = f"precision: {_name(before)} gave NaN or infinity at {size}; going on in float32."
        warnings.warn(line, RefinerWarning, stacklevel=3)
        planner.replan(conv_dtype=None)
        fill = planner.run(work, image, *args)
    if not _is_finite(fill):
        raise ModelError(f"model: its prediction at {size} has NaN or infinity; `refiner check` tells more.")
    return fill


def _asks_to_stop(callback: Callable[[Any], object], news: Progress | ScaleResult) -> bool:
    try:
        callback(news)
    except StopRefinement:
        return True
    return False


def _is_finite(fill: Fill) -> bool:
    losses = [loss for window in fill.windows for loss in window.losses]
    return all(map(math.isfinite, losses)) and bool(fill.prediction.isfinite().all())


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _scale_count(
    model: Inpainter,
    image: Tensor,
    settings: Settings,
    guide: Tensor | Callable[[Tensor, Tensor], Tensor] | None,
) -> int:
    if not settings.refine:
        return 1
    if isinstance(guide, Tensor):
        # The smallest scale is about the guide's size, so that nothing of it is lost.
        count, side = 1, image.shape[-2]
        while side > _GUIDE_ENLARGED * guide.shape[-2]:
            count, side = count + 1, side // 2
        return count
    return pyramid.scale_count(*size_of(image), settings.min_side or model.spec.train_size, settings.max_scales)


def _enlarge(composite: Tensor, size: tuple[int, int]) -> Tensor:
    """Stands in for a prediction that was not made: the previous scale, enlarged."""
    return functional.interpolate(composite, size=size, mode="bicubic", align_corners=False).clamp(0, 1)


def _seconds_since(start: float, device: torch.device) -> float:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)  # otherwise this times the launch, not the work
    return time.perf_counter() - start


def has_aspect(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether a picture of one size, height and width, can be a smaller or larger copy of one of the other."""
    # Tools round sides, some to multiples of 8 or 64; more than that is another picture.
    return abs(size[0] * other[1] / other[0] - size[1]) <= 1 + _ASPECT * size[1]


def _checked_guide(guide: Tensor, image: Tensor) -> Tensor:
    """A fill made elsewhere, as the image's."""
    if guide.ndim != _IMAGE_DIMS or guide.shape[:2] != image.shape[:2] or 0 in guide.shape:
        raise InputError(f"guide: expected shape {(*image.shape[:2], 'h', 'w')}, got {tuple(guide.shape)}.")
    (height, width), (guide_height, guide_width) = size_of(image), size_of(guide)
    if not has_aspect((guide_height, guide_width), (height, width)):
        raise InputError(
            f"guide: is {guide_width}x{guide_height}, which is not the aspect of {width}x{height}; expected a fill of "
            "the whole picture, at any size."
        )
    guide = guide.detach().to(image)
    if not ((guide >= 0) & (guide <= 1)).all():
        raise InputError("guide: expected values in [0,1].")
    return guide


def _checked_avoid(avoid: Tensor, image: Tensor) -> Tensor:
    expected = (image.shape[0], 1, *image.shape[2:])
    if avoid.shape != expected:
        raise InputError(f"avoid: expected shape {expected} to fit the image, got {tuple(avoid.shape)}.")
    return avoid > 0


def _checked_hole(model: Inpainter, image: Tensor, mask: Tensor) -> Tensor:
    """Check what the caller gave; the hole is a bool tensor on the image's device."""
    if image.ndim != _IMAGE_DIMS or image.shape[1] != 3 or 0 in image.shape:  # noqa: PLR2004  R, G, B
        raise InputError(f"image: expected shape (N,3,H,W), got {tuple(image.shape)}.")
    if not image.is_floating_point():
        raise InputError(f"image: expected floating point in [0,1], got {image.dtype}; divide 8-bit values by 255.")
    if not ((image >= 0) & (image <= 1)).all():
        low, high = image.aminmax()
        raise InputError(f"image: expected values in [0,1], got {low.item():g} to {high.item():g}.")
    if mask.shape != (image.shape[0], 1, *image.shape[2:]):
        expected = (image.shape[0], 1, *image.shape[2:])
        raise InputError(f"mask: expected shape {expected} to fit the image, got {tuple(mask.shape)}.")
    if isinstance(model, nn.Module):
        parameter = next((p for p in model.parameters() if p.is_floating_point()), image)
        if (parameter.dtype, parameter.device) != (image.dtype, image.device):
            raise InputError(
                f"image: is {image.dtype} on {image.device}, the model {parameter.dtype} on {parameter.device}; "
                "move one of them with .to()."
            )
    hole = mask.to(image.device) > 0
    if hole.flatten(1).all(dim=1).any():
        raise InputError("mask: covers the whole picture and leaves nothing to go by; expected some known pixels.")
    return hole
