"""What a call takes beside its predictions, and what an update asks of the host: seconds, operations, waits."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.measure import synchronize
from refiner import HoleBoxes, Target, make_plan, paper_objective, refine
from refiner.engine.capture import no_recording
from refiner.engine.optimize import optimize_features
from refiner.frozen import FrozenGradients
from refiner.models.inpainter import Inpainter, run_front, run_rear
from refiner.models.private import private
from refiner.torch_state import own_state

if TYPE_CHECKING:
    from torch import Tensor

    from refiner import Settings

_HOST = torch.device("cpu")
_SIDE = 256  # updates are counted at; their operations are the same at any size


@dataclass(frozen=True)
class Overhead:
    """What was counted and timed.

    Attributes:
        first_plan: processor seconds of the first plan with a model.
        later_plan: of a later one of another size.
        copy: of a model's first private copy.
        copy_again: of one that waits from the call before.
        before: seconds of a second call until its first prediction begins, the smallest scale's.
        after: seconds from its last prediction to its result.
        operations: dispatched in an update: a prediction, its loss, the gradient and Adam's step.
        waits: of the host for the device in an update: values read, and tensors copied between the two.
    """

    first_plan: float
    later_plan: float
    copy: float
    copy_again: float
    before: float
    after: float
    operations: int
    waits: int

    def note(self) -> str:
        """All of it in a line."""
        return (
            f"plan {1e3 * self.first_plan:.0f} ms, then {1e3 * self.later_plan:.1f} ms; "
            f"copy {1e3 * self.copy:.0f} ms, then {1e3 * self.copy_again:.0f} ms of the processor; "
            f"{1e3 * self.before:.0f} ms until a second call's first prediction begins, {self.after:.2f} s from the "
            f"last to the result; an update: {self.operations} operations, {self.waits} waits"
        )


def overhead(model: Inpainter, image: Tensor, mask: Tensor, settings: Settings) -> Overhead:
    """Measure it for a model that has not been worked with, an image (1,3,H,W) and its mask (1,1,H,W)."""
    hole = HoleBoxes.of((mask > 0)[0, 0].cpu().numpy())
    _warm(image.device)
    planned = partial(make_plan, hole, model, settings, device=image.device)
    first_plan, later_plan = _processor_seconds(planned), _processor_seconds(planned)
    copy, copy_again = (_processor_seconds(lambda: _copied(model)) for _ in range(2))
    once = replace(settings, steps=1)  # what lies between the first prediction and the last is not asked for here
    refine(model, image, mask, once)
    times: list[float] = []
    synchronize(image.device)
    times.append(time.perf_counter())

    def noted(*args: Any) -> Any:
        times.append(time.perf_counter())
        return run_front(*args)

    with patch("refiner.engine.network.run_front", noted):
        refine(model, image, mask, once, lambda _: times.append(time.perf_counter()))
    synchronize(image.device)
    times.append(time.perf_counter())
    counted = _update(model, image, mask, settings)
    return Overhead(
        first_plan,
        later_plan,
        copy,
        copy_again,
        times[1] - times[0],
        times[-1] - times[-2],
        counted.operations,
        counted.waits,
    )


def _processor_seconds(run: Any) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def _copied(model: Inpainter) -> None:
    with private(model):
        pass


def _warm(device: torch.device) -> None:
    """Have PyTorch import what it imports for any gradient; loading a checkpoint does so too."""
    x = torch.ones(1, device=device, requires_grad=True)
    torch.autograd.grad(2 * x, x, torch.ones_like(x))


class Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations, and those for which host and device wait for each other."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = self.waits = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operations += 1
        self.waits += _waits(func, args, out)
        return out


def _waits(func: Any, args: Any, out: Any) -> bool:
    aten = torch.ops.aten
    if func in (aten._local_scalar_dense.default, aten.nonzero.default, aten.is_nonzero.default):  # noqa: SLF001
        # Adam counts its steps in a tensor of the host's, on every device.
        return args[0].device != _HOST or not args[0].is_floating_point()
    if func is aten.copy_.default:
        return bool((args[0].device == _HOST) != (args[1].device == _HOST))
    if func is aten._to_copy.default:  # noqa: SLF001
        return bool((args[0].device == _HOST) != (out.device == _HOST))
    return False


def _update(model: Inpainter, image: Tensor, mask: Tensor, settings: Settings) -> Counted:
    """One prediction more at a scale, counted as the difference between three and two."""
    image, hole = image[..., :_SIDE, :_SIDE], mask[..., :_SIDE, :_SIDE] > 0
    coarse = functional.interpolate(image, scale_factor=0.5, mode="bilinear")
    counts = []
    conv_dtype = torch.bfloat16 if settings.precision == "bfloat16" else None
    with own_state(image.device), torch.no_grad(), no_recording(), private(model) as held:
        with FrozenGradients(conv_dtype):
            features = run_front(held, image, hole)
        objective = paper_objective(Target(image, hole, coarse, (image.shape[-2], image.shape[-1])))
        for steps in (2, 3):
            with Counted() as counted:
                optimize_features(
                    lambda features: run_rear(held, features, image), lambda: features, objective,
                    steps=steps, lr=0.002, keep="best", conv_dtype=conv_dtype,
                )  # fmt: skip
            counts.append(counted)
    fewer, more = counts
    difference = Counted()
    difference.operations, difference.waits = more.operations - fewer.operations, more.waits - fewer.waits
    return difference
