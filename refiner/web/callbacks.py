"""The engine's callbacks for a job: they show and tell how far the work is."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from refiner.images.drawing import box_of
from refiner.images.screen import as_png, part_of_mask, resized, values_for_screen
from refiner.web.pace import cost_of

if TYPE_CHECKING:
    import torch

    from refiner.engine.plan import Plan
    from refiner.engine.result import Progress, ScaleResult
    from refiner.photo import Photo
    from refiner.web.jobs import Job
    from refiner.web.offer import Choice
    from refiner.web.pace import Pace

_SHOWN_SIDE = 2048  # pixels on the longer side of a shown picture, at most
_WHITE = 255
_LEAST = 0.01  # share of the work done from which it says something of the rest


class JobCallbacks:
    """The engine's callbacks: they tell a job how far its work is, and end the work where that was asked for.

    Args:
        job: the job.
        photo: the photo that it fills.
        choice: its model and settings.
        pace: predicts the seconds on this machine.

    Attributes:
        cost: of the work, see `cost_of`; 0 before there is a plan.
    """

    def __init__(self, job: Job, photo: Photo, choice: Choice, pace: Pace) -> None:
        self._job = job
        self._photo = photo
        self._choice = choice
        self._pace = pace
        self._started = time.perf_counter()
        self.cost = 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._started

    def on_plan(self, plan: Plan) -> None:
        """Called before the work: tells the plan and the expected seconds."""
        self._job.check()
        self.cost = cost_of(plan, self._choice.settings)
        self._job.tell(plan=str(plan), expected=self._pace.seconds(self._choice, self.cost))

    def on_progress(self, progress: Progress) -> None:
        """Called after each prediction: tells the progress."""
        self._job.tell(progress={**asdict(progress), **self._time_left(progress)})
        self._job.check()

    def on_scale(self, scale: ScaleResult) -> None:
        """Called after each scale: shows it, except full size, which soon is shown as a round."""
        height, width = scale.size
        if scale.size != self._photo.picture.size:
            box = box_in_copy(self._photo, scale.size)
            picture = shown_hole(scale.composite, box, self._photo)
            self._job.show(width, picture, latest={"number": width, "box": box.place, "size": [width, height]})
        self._job.check()

    def _time_left(self, progress: Progress) -> dict[str, float]:
        """The share of the work done and the seconds left; each scale costs four times the one before."""
        here = progress.scale_done
        weights = [4.0**number for number in range(progress.scales)]
        done = (sum(weights[: progress.scale - 1]) + weights[progress.scale - 1] * here) / sum(weights)
        gone = self.seconds
        left = gone * (1 - done) / max(done, _LEAST) if progress.seconds_left is None else progress.seconds_left
        expected = self._pace.seconds(self._choice, self.cost)
        if expected is not None:  # at the start this is the better prediction
            left = done * left + (1 - done) * max(expected - gone, 0)
        return {"done": round(done, 4), "left": round(left, 1)}


@dataclass(frozen=True)
class Box:
    """A box of whole pixels around the hole in a scaled copy of a photo; `place` is the same box in the photo."""

    left: int
    top: int
    right: int
    bottom: int
    place: tuple[float, float, float, float]


def box_in_copy(photo: Photo, size: tuple[int, int]) -> Box:
    """The smallest box of whole pixels around the hole, in a copy of this height and width."""
    height, width = size
    full_height, full_width = photo.picture.size
    left, top, right, bottom = box_of(photo.hole.mask) or (0, 0, full_width, full_height)
    x, y = full_width / width, full_height / height
    box = int(left / x), int(top / y), min(int(right / x) + 1, width), min(int(bottom / y) + 1, height)
    return Box(*box, place=(box[0] * x, box[1] * y, box[2] * x, box[3] * y))


def shown_hole(composite: torch.Tensor, box: Box, photo: Photo) -> bytes:
    """The part of a scale's composite (N,3,h,w) in the box, as a PNG that is transparent outside the hole."""
    part = composite[0, :, box.top : box.bottom, box.left : box.right]
    values = part.clamp(0, 1).mul(_WHITE).round().byte().permute(1, 2, 0).cpu().numpy()
    picture = photo.picture
    profile = picture.metadata.get("icc_profile") if picture.color.shape[2] == 3 else None  # noqa: PLR2004  RGB
    pixels = resized(values_for_screen(values, profile), _SHOWN_SIDE)
    return as_png(pixels, part_of_mask(photo.hole.mask, box.place, pixels.shape[:2]))
