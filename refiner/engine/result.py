"""What a refinement reports while it runs, and what it gives at the end."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from refiner.engine.pyramid import halve_image

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor

    from refiner.engine.plan import Plan
    from refiner.regions import Window


@dataclass(frozen=True)
class Progress:
    """What a progress callback is given after each prediction.

    Attributes:
        scale: which scale, from 1, the smallest.
        scales: how many there are.
        size: the scale's height and width in pixels.
        step: which prediction of the window, from 1.
        steps: how many there will be; with the last one, how many there were.
        loss: its loss, the mean over the batch; None at a scale that is only inpainted.
        window: which window of the scale, from 1.
        windows: how many windows it is refined in.
        scale_done: how much of the scale is done, 0 to 1.
        seconds_left: about how long the work on this image will go on; None where that is not known yet.
        image: which image of the batch, from 1.
        images: how many there are.
    """

    scale: int
    scales: int
    size: tuple[int, int]
    step: int = 1
    steps: int = 1
    loss: float | None = None
    window: int = 1
    windows: int = 1
    scale_done: float = 1.0
    seconds_left: float | None = None
    image: int = 1
    images: int = 1


@dataclass(frozen=True)
class WindowResult:
    """One window of a scale that was refined.

    Attributes:
        window: where it lies.
        losses: loss of every prediction made; fewer than `Settings.steps` where the caller ended them.
        kept: index into `losses` of the prediction in the composite.
        corrected: loss of that prediction after back-projection; None where it was not changed.
        image: which image of the batch, from 0.
    """

    window: Window
    losses: tuple[float, ...]
    kept: int
    corrected: float | None = None
    image: int = 0

    @property
    def loss_after(self) -> float:
        """Loss of what is in the composite."""
        return self.losses[self.kept] if self.corrected is None else self.corrected

    def to_dict(self) -> dict[str, Any]:
        """In plain values; `size` is width and height."""
        return {
            "left": self.window.left,
            "top": self.window.top,
            "size": list(self.window.size[::-1]),
            "losses": list(self.losses),
            "kept": self.kept,
            "corrected": self.corrected,
            "image": self.image,
        }


@dataclass(frozen=True)
class ScaleResult:
    """One scale of a result.

    Attributes:
        size: height and width in pixels.
        composite: the prediction in the hole, the photo elsewhere; (N,3,h,w).
        windows: what happened in each window; one where the scale was refined as a whole, none at the smallest scale
            and at scales that were not reached.
        seconds: time spent on it.
        shares: of the hole's pixels, by what filled them: `model` (the network, unrefined), `features` (refined),
            `exemplar` (copied from the photo), `both` (the smaller scale, with detail from the photo), `guide` (given);
            of the whole batch; empty at scales that were not reached.
    """

    size: tuple[int, int]
    composite: Tensor
    windows: tuple[WindowResult, ...]
    seconds: float
    shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def refined(self) -> bool:
        """Whether refinement changed the result of this scale."""
        return any(window.kept > 0 or window.corrected is not None for window in self.windows)

    @property
    def predictions(self) -> int:
        """How many were made, in all windows."""
        return sum(len(window.losses) for window in self.windows)

    @property
    def losses(self) -> tuple[float, ...]:
        """The loss curve: of each prediction, the mean over the windows, weighted by their area.

        A window that made fewer than another counts with its last.
        """
        longest = max((len(window.losses) for window in self.windows), default=0)
        return tuple(
            self._mean([window.losses[min(index, len(window.losses) - 1)] for window in self.windows])
            for index in range(longest)
        )

    @property
    def loss_before(self) -> float:
        """Loss of the unrefined prediction."""
        return self._mean([window.losses[0] for window in self.windows])

    @property
    def loss_after(self) -> float:
        """Loss of the prediction in the composite."""
        return self._mean([window.loss_after for window in self.windows])

    def to_dict(self) -> dict[str, Any]:
        """All but the composite, in plain values; `size` is width and height."""
        return {
            "size": list(self.size[::-1]),
            "refined": self.refined,
            "shares": dict(self.shares),
            "losses": list(self.losses),
            "predictions": self.predictions,
            "loss_before": self.loss_before if self.losses else None,
            "loss_after": self.loss_after if self.losses else None,
            "windows": [window.to_dict() for window in self.windows],
            "seconds": round(self.seconds, 3),
        }

    def _mean(self, values: Iterable[float]) -> float:
        areas = [window.window.area for window in self.windows]
        return sum(area * value for area, value in zip(areas, values, strict=True)) / sum(areas)


@dataclass(frozen=True)
class Result:
    """What `refine` gives.

    Attributes:
        image: (N,3,H,W) in [0,1]; equal to the input outside the hole, bit for bit.
        scales: from the smallest to the full size; empty where there was no hole.
        shrunk_from: the input's height and width where `pixel_budget` shrank it, else None.
        stopped: whether the progress callback stopped the work; scales it did not reach are enlarged
            from the last one that it did.
        plan: how the work was cut to fit into memory, of the last image that had a hole; None where none had.
        warnings: what the work met on its way and went on from, a line each.
    """

    image: Tensor
    scales: tuple[ScaleResult, ...]
    shrunk_from: tuple[int, int] | None
    stopped: bool
    plan: Plan | None
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """All but the images, in plain values as JSON takes them; sizes are width and height."""
        return {
            "plan": None if self.plan is None else str(self.plan),
            "shrunk_from": None if self.shrunk_from is None else list(self.shrunk_from[::-1]),
            "stopped": self.stopped,
            "warnings": list(self.warnings),
            "scales": [scale.to_dict() for scale in self.scales],
        }


def joined(results: Sequence[Result], dtype: torch.dtype) -> Result:
    """The result of a batch from those of its images; pictures in `dtype`.

    At each scale, an image without a hole has itself, halved as often; means over windows and shares are over all
    images.
    """
    if len(results) == 1:
        return replace(results[0], image=results[0].image.to(dtype))
    filled = [result for result in results if result.scales]
    image = torch.cat([result.image for result in results]).to(dtype)
    if not filled:
        return replace(results[0], image=image)
    last = filled[-1]
    return Result(
        image,
        tuple(_joined_scale(results, number) for number in range(len(last.scales))),
        None,
        any(result.stopped for result in results),
        last.plan,
        tuple(line for result in results for line in result.warnings),
    )


def _joined_scale(results: Sequence[Result], number: int) -> ScaleResult:
    filled = [(index, result.scales[number]) for index, result in enumerate(results) if result.scales]
    count = len(next(result.scales for result in results if result.scales))
    composites = []
    for result in results:
        composite = result.scales[number].composite if result.scales else result.image
        for _ in range(0 if result.scales else count - 1 - number):
            composite = halve_image(composite)
        composites.append(composite)
    scales = [scale for _, scale in filled]
    names = list(dict.fromkeys(name for scale in scales for name in scale.shares))
    return ScaleResult(
        scales[0].size,
        torch.cat(composites),
        tuple(replace(window, image=index) for index, scale in filled for window in scale.windows),
        sum(scale.seconds for scale in scales),
        {name: sum(scale.shares.get(name, 0) for scale in scales) / len(scales) for name in names},
    )
