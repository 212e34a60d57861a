"""The paper's algorithm: inpaint the smallest scale, then refine from coarse to fine.

Source: "Feature Refinement to Improve High Resolution Image Inpainting", arXiv 2206.13644.
"""

from __future__ import annotations

import time
import warnings
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from refiner.engine import pyramid
from refiner.engine.capture import Recordings
from refiner.engine.fill import Filler
from refiner.engine.network import Fill, Network
from refiner.engine.objective import ObjectiveFactory, paper_objective
from refiner.engine.padding import size_of
from refiner.engine.plan import Plan, make_plan
from refiner.engine.precision import uses_tf32
from refiner.engine.reporter import Reporter
from refiner.engine.result import Progress, Result, ScaleResult, joined
from refiner.errors import InputError, RefinerWarning
from refiner.memory import freed_memory_kept
from refiner.models.placement import placed_on
from refiner.models.private import in_float32, private
from refiner.regions import HoleBoxes
from refiner.settings import Settings
from refiner.torch_state import own_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from refiner.engine.optimize import Tuned
    from refiner.models.inpainter import Inpainter

_IMAGE_DIMS = 4  # N, C, H, W
_ASPECT = 0.02
_IN_FLOAT32 = (torch.float16, torch.bfloat16)  # what comes in these is computed in float32


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
            computed in float32. Images of a batch are filled one after the other, each as it would be alone.
        mask: (N,1,H,W), any dtype; every value above 0 is hole. What lies in the hole does not matter.
        settings: `Settings()` where None.
        progress: called after each prediction; raising `StopRefinement` ends the work early with the best
            result so far.
        on_plan: called with the way the work on an image is cut to fit into memory, before it starts, and again where
            that changes.
        on_scale: called with each scale's result as soon as it is there, the smallest first. What it, `progress` or
            `on_plan` raises beside `StopRefinement` ends the work and reaches the caller as it is.
        objective: makes the loss that the features of a window are optimized for; the paper's unless given.
        guide: a fill made elsewhere that takes the smallest scale's place: (N,3,h,w) in [0,1], of any size and the
            image's aspect; or what makes one of the smallest scale's image and mask. It counts in the hole.
        avoid: what must not be copied into the hole; (N,1,H,W), any dtype, above 0 where that is.

    Returns:
        The filled image and what happened at each scale.

    Raises:
        InputError: shapes, dtypes, ranges or devices do not fit, a hole leaves nothing known, `avoid` is given where
            nothing is copied, or a guide where nothing is refined.
        ModelError: the model fails while it runs, its prediction has the wrong shape, or NaN also in float32.
        SettingsError: the device does not have the precision asked for.
        BudgetError: the work does not fit into memory, whichever way it is cut.
    """
    settings = settings or Settings()
    hole = _checked_hole(model, image, mask)
    avoid = None if avoid is None else _checked_avoid(avoid, image)
    if guide is not None and not settings.refine:
        raise InputError("guide: nothing follows it where `refine` is off; leave it out, or refine.")
    if isinstance(guide, Tensor):
        guide = _checked_guide(guide, image)
    dtype = image.dtype
    with own_state(image.device, tf32=uses_tf32(settings.precision, image.device)), ExitStack() as held:

        @cache
        def network() -> Inpainter:
            copy = held.enter_context(private(model))
            return in_float32(copy) if dtype in _IN_FLOAT32 else copy

        # Ours, and usable by autograd whatever mode the caller is in; pixels of pictures lie color by color there.
        image = image.detach().clone(memory_format=torch.contiguous_format)
        if dtype in _IN_FLOAT32:
            name = str(dtype).removeprefix("torch.")
            warnings.warn(
                f"image: {name} is computed in float32, and rounded at the end.", RefinerWarning, stacklevel=2
            )
            image = image.float()
        full_size = size_of(image)
        if settings.refine and settings.pixel_budget is not None and hole.any():
            image, hole = pyramid.shrink_to_budget(image, hole, settings.pixel_budget)
        recordings: Recordings[Tuned] = Recordings()  # freed with this call
        job = _Job(model, network, settings, objective, recordings)
        results: list[Result] = []
        for index in range(len(image)):
            one = slice(index, index + 1)
            reporter = Reporter(
                progress,
                on_plan,
                on_scale,
                settings=settings,
                image=index + 1,
                images=len(image),
                stopped=any(result.stopped for result in results),
            )
            given = guide[one] if isinstance(guide, Tensor) else guide
            results.append(job.fill(image[one], hole[one], given, None if avoid is None else avoid[one], reporter))
        shrunk_from = full_size if size_of(image) != full_size else None
        return replace(joined(results, dtype), shrunk_from=shrunk_from)


@dataclass(frozen=True)
class _Job:
    """What is done to each image of a batch.

    Attributes:
        model: the caller's, of which plans are made.
        network: gives the copy that does the work, made when it is first asked for.
        settings: of the refinement.
        objective: makes the loss of a window.
        recordings: of the network's rear half.
    """

    model: Inpainter
    network: Callable[[], Inpainter]
    settings: Settings
    objective: ObjectiveFactory
    recordings: Recordings[Tuned]

    def fill(
        self,
        image: Tensor,
        hole: Tensor,
        guide: Tensor | Callable[[Tensor, Tensor], Tensor] | None,
        avoid: Tensor | None,
        reporter: Reporter,
    ) -> Result:
        """Fill the hole (1,1,H,W) of one image (1,3,H,W), scale by scale."""
        if not hole.any():
            return Result(image, scales=(), shrunk_from=None, stopped=False, plan=None)
        boxes = HoleBoxes.of(hole[0, 0].cpu().numpy())

        def planned(settings: Settings, attempt: int = 0, budget: int | None = None) -> Plan:
            size = size_of(guide) if isinstance(guide, Tensor) else guide is not None
            return make_plan(
                boxes, self.model, settings, guide=size, device=image.device, dtype=image.dtype,
                devices=placed_on(self.model), objective=self.objective, attempt=attempt, budget=budget,
            )  # fmt: skip

        plan = planned(self.settings)
        if avoid is not None and not plan.copy_windows:
            raise InputError(
                "avoid: nothing is copied where the network alone fills the hole; leave it out, or choose another "
                "detail: exemplar, both or auto."
            )
        reporter.planned(plan)
        # What one level's copies are chosen and blended in serves the next, which else waits for fresh memory.
        keep = plan.roomy and not plan.network
        with freed_memory_kept(0) if keep else nullcontext():
            levels = pyramid.build_pyramid(image, hole, plan.levels)
            scales = levels[plan.levels - len(plan.sizes) :]
            if guide is not None and not isinstance(guide, Tensor):
                smallest, smallest_hole = scales[0]
                guide = _checked_guide(guide(smallest, smallest_hole.to(smallest)), image)
            network = None
            if plan.network:
                devices = placed_on(self.model) or (image.device,)
                network = Network(
                    self.network(), self.settings, self.objective, plan, planned, reporter, devices, self.recordings
                )
            filler = Filler(plan, levels, network, given=guide, avoid=avoid, seed=self.settings.seed, reporter=reporter)

            results: list[ScaleResult] = []
            for number, (scale, scale_hole) in enumerate(scales, start=1):
                started, here = time.perf_counter(), reporter.at(number, plan)
                if not results:
                    fill = filler.smallest(here)
                elif reporter.stopped:
                    fill = Fill(pyramid.enlarge(results[-1].composite, size_of(scale)))
                else:
                    fill = filler.larger(results[-1].composite, here)
                composite = torch.where(scale_hole, fill.prediction.clamp(0, 1), scale)
                seconds = _seconds_since(started, image.device)
                results.append(ScaleResult(size_of(scale), composite, fill.windows, seconds, fill.shares))
                reporter.scale(results[-1])
            return Result(
                results[-1].composite,
                tuple(results),
                None,
                reporter.stopped,
                plan if network is None else network.plan,
                () if network is None else tuple(network.warnings),
            )


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
    low, high = image.aminmax()
    if not (low >= 0 and high <= 1):  # not so for NaN either
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
