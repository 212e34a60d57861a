"""The paper's algorithm: inpaint the smallest scale, then refine from coarse to fine.

Source: "Feature Refinement to Improve High Resolution Image Inpainting", arXiv 2206.13644.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from refiner.engine import pyramid
from refiner.engine.color_match import match_color
from refiner.engine.objective import Objective
from refiner.engine.optimize import Outcome, StopRefinement, optimize_features
from refiner.engine.plan import Plan, Planner, scale_windows
from refiner.engine.precision import conv_dtype
from refiner.engine.result import Progress, Result, ScaleResult, WindowResult
from refiner.engine.windows import whole
from refiner.errors import InputError
from refiner.frozen import FrozenGradients
from refiner.models.inpainter import Inpainter, encode, frozen, learning_rate, padded_size, predict, train_size
from refiner.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from refiner.engine.pyramid import Padding

    Teller = Callable[..., object]

_IMAGE_DIMS = 4  # N, C, H, W


def refine(
    model: Inpainter,
    image: Tensor,
    mask: Tensor,
    settings: Settings | None = None,
    progress: Callable[[Progress], object] | None = None,
    on_plan: Callable[[Plan], object] | None = None,
) -> Result:
    """Remove what the mask covers and refine the fill at full size.

    Args:
        model: the network, on the image's device and of its dtype. It is held in eval mode meanwhile.
        image: (N,3,H,W), RGB, floating point in [0,1], on any device. Never written to.
        mask: (N,1,H,W), any dtype; every value above 0 is hole. What lies in the hole does not matter.
        settings: `Settings()` where None.
        progress: called after each prediction; raising `StopRefinement` ends the work early with the best
            result so far.
        on_plan: told how the work will be cut to fit into memory, before it starts, and again where that changes.

    Returns:
        The filled picture and what happened at each scale. Pictures of a batch do not influence each other,
        except that `losses` are their mean.

    Raises:
        InputError: shapes, dtypes, ranges or devices do not fit, a hole leaves nothing known, or the model's
            prediction has the wrong shape.
        ModelError: the model fails while it runs.
        BudgetError: the work does not fit into memory, whichever way it is cut.
    """
    settings = settings or Settings()
    hole = _checked_hole(model, image, mask)
    with torch.inference_mode(mode=False), torch.no_grad(), frozen(model):
        image = image.detach().clone()  # ours, and usable by autograd whatever mode the caller is in

        def report(**known: Any) -> None:
            if progress is not None:
                progress(Progress(**known))

        if not hole.any():
            return Result(image, scales=(), shrunk_from=None, stopped=False, plan=None)
        return _coarse_to_fine(model, image, hole, settings, report, on_plan or (lambda _: None))


def _coarse_to_fine(
    model: Inpainter,
    image: Tensor,
    hole: Tensor,
    settings: Settings,
    tell: Teller,
    on_plan: Callable[[Plan], object],
) -> Result:
    full_size = _size(image)
    if settings.pixel_budget is not None and settings.refine:
        image, hole = pyramid.shrink_to_budget(image, hole, settings.pixel_budget)
    min_side = settings.min_side or train_size(model)
    count = pyramid.scale_count(*_size(image), min_side, settings.max_scales) if settings.refine else 1
    dtype = conv_dtype(settings.precision, image.device, image.dtype)
    levels = pyramid.build_pyramid(image, hole, count)
    planner = Planner(model, image, [level_hole for _, level_hole in levels], settings, dtype, on_plan)

    scales: list[ScaleResult] = []
    stopped = False
    for number, (level, level_hole) in enumerate(levels, start=1):
        start = time.perf_counter()
        tell_scale = partial(tell, scale=number, scales=count, size=_size(level))
        windows: tuple[WindowResult, ...] = ()
        if not scales:
            # Where they do not refine, the authors pad this one pass by mirroring at the outer edge.
            padding: Padding = "reflect" if settings.refine else "symmetric"
            prediction, stopped = planner.run(_inpaint, model, level, level_hole, padding, tell_scale)
        elif stopped:
            prediction = _enlarge(scales[-1].composite, _size(level))
        else:
            reference = scales[-1].composite
            prediction, windows, stopped = planner.run(
                _refine_scale, model, level, level_hole, reference, settings, tell_scale
            )
        if settings.match_color and number == count:
            prediction = match_color(prediction, level, level_hole)
        composite = torch.where(level_hole, prediction, level)
        if image.device.type != "cpu":
            torch.accelerator.synchronize(image.device)  # else the seconds would be those of asking for the work
        scales.append(ScaleResult(_size(level), composite, windows, time.perf_counter() - start))
    shrunk_from = full_size if _size(image) != full_size else None
    return Result(scales[-1].composite, tuple(scales), shrunk_from, stopped, planner.plan)


def _inpaint(
    plan: Plan, model: Inpainter, image: Tensor, hole: Tensor, padding: Padding, tell: Teller
) -> tuple[Tensor, bool]:
    """One full pass of the network, without refinement; the prediction, and whether to stop."""
    padded, padded_hole = _padded(model, image, hole, padding)
    with FrozenGradients(plan.conv_dtype):
        features = encode(model, padded, padded_hole)
        prediction = predict(model, features, padded)
    try:
        tell(step=1, steps=1, loss=None)
    except StopRefinement:
        return _crop(prediction, image), True
    return _crop(prediction, image), False


def _refine_scale(
    plan: Plan,
    model: Inpainter,
    image: Tensor,
    hole: Tensor,
    reference: Tensor,
    settings: Settings,
    tell: Teller,
) -> tuple[Tensor, tuple[WindowResult, ...], bool]:
    """Refine a scale window by window; the prediction, what happened in each, and whether to stop."""
    height, width = _size(image)
    windows = scale_windows(model, hole, settings, plan.context)
    if windows != (whole(hole),):
        # A window is compared with the guide at exactly half its size, which an odd picture's guide is not.
        image, hole, reference = (
            pyramid.pad_to_even(image),
            pyramid.pad_to_even(hole),
            pyramid.exactly_half(reference, (height, width)),
        )
        windows = scale_windows(model, hole, settings, plan.context)
    prediction = _enlarge(reference, _size(image))  # stays where a stop leaves a window unrefined
    results: list[WindowResult] = []
    for index, window in enumerate(windows, start=1):
        outcome = _refine_window(
            model,
            window.of(image),
            window.of(hole),
            window.halved().of(reference),
            settings,
            plan.conv_dtype,
            partial(tell, window=index, windows=len(windows)),
        )
        window.of(prediction).copy_(outcome.prediction)
        results.append(WindowResult(window, outcome.losses, outcome.kept))
        if outcome.stopped:
            break
    return prediction[..., :height, :width], tuple(results), outcome.stopped


def _refine_window(
    model: Inpainter,
    image: Tensor,
    hole: Tensor,
    reference: Tensor,
    settings: Settings,
    dtype: torch.dtype | None,
    tell: Teller,
) -> Outcome:
    """Optimize the features until the prediction agrees with the previous scale's composite."""
    padded, padded_hole = _padded(model, image, hole, "reflect")
    with FrozenGradients(dtype):
        features = encode(model, padded, padded_hole)
    outcome = optimize_features(
        rear=lambda features: predict(model, features, padded),
        features=features,
        objective=Objective.at_scale(
            padded, padded_hole, reference, hole, erosion=settings.erosion, guide_weight=settings.guide_weight
        ),
        steps=settings.steps,
        lr=settings.lr or learning_rate(model),
        keep=settings.keep,
        on_step=lambda step, loss: tell(step=step + 1, steps=settings.steps, loss=loss),
        conv_dtype=dtype,
        rates=settings.lr_scale if settings.lr_scale is not None else getattr(model, "lr_scale", None),
    )
    return replace(outcome, prediction=_crop(outcome.prediction, image))


def _enlarge(composite: Tensor, size: tuple[int, int]) -> Tensor:
    """Stands in for a prediction that was not made: the previous scale, enlarged."""
    return functional.interpolate(composite, size=size, mode="bicubic", align_corners=False).clamp(0, 1)


def _padded(model: Inpainter, image: Tensor, hole: Tensor, padding: Padding) -> tuple[Tensor, Tensor]:
    size = padded_size(model, *_size(image))
    return pyramid.pad(image, size, padding), pyramid.pad(hole, size, padding)


def _crop(prediction: Tensor, image: Tensor) -> Tensor:
    return prediction[..., : image.shape[-2], : image.shape[-1]]


def _size(image: Tensor) -> tuple[int, int]:
    return image.shape[-2], image.shape[-1]


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
