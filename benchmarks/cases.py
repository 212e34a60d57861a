"""What `benchmarks.speed` measures: each case is a method that takes a measurement."""

from __future__ import annotations

import importlib
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from benchmarks.measure import Meter, seconds, synchronize
from benchmarks.overhead import overhead
from benchmarks.rows import Row
from lama import Generator, LamaInpainter
from refiner import Settings, Target, paper_objective, refine
from refiner.engine.capture import no_recording
from refiner.engine.optimize import optimize_features
from refiner.engine.precision import conv_dtype as checked_precision
from refiner.engine.precision import uses_tf32
from refiner.engine.pyramid import build_pyramid, halve_image
from refiner.frozen import FrozenGradients, saved_bytes, strip_height
from refiner.memory import Peak
from refiner.models.inpainter import run_front, run_rear
from refiner.torch_state import own_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from benchmarks.reference import Reference
    from refiner.settings import Precision

_STRIP_HEIGHT = 256
# Random weights give noise; to match its colors to the photo would lead away from the coarser scale.
_UNFINISHED: dict[str, Any] = {"match_color": "off", "blend_rim": False, "grain": False}


def _precision(name: str, device: torch.device) -> Precision:
    """The setting of this name.

    Raises:
        SettingsError: the device does not have it.
    """
    precision: Precision = name  # type: ignore[assignment]
    checked_precision(precision, device, torch.float32)
    return precision


@dataclass
class Bench:
    """The measurements, and what they share."""

    generator: Generator
    device: torch.device
    repeats: int
    steps: int
    hole: float
    memory: str | None = None
    min_side: int = 512
    # Ours of whole pictures, by size and precision, to compare with the authors'.
    results: dict[tuple[int, int, str], Tensor] = field(default_factory=dict)
    # By size, the smallest scale's result and the number of scales.
    smallest: dict[tuple[int, int], tuple[Tensor, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model = LamaInpainter(self.generator).to(self.device)

    def picture(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Noise (1,3,H,W) and a mask (1,1,H,W) with a square hole in its middle."""
        image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
        side = int((self.hole * height * width) ** 0.5) // 2
        mask = torch.zeros(1, 1, height, width)
        mask[..., height // 2 - side : height // 2 + side, width // 2 - side : width // 2 + side] = 1
        return image.to(self.device), mask.to(self.device)

    def update(self, method: str, height: int, width: int, precision: str) -> Row:
        """One prediction and the gradient towards its features."""
        rows = _STRIP_HEIGHT if method == "frozen in strips" else None
        tf32 = uses_tf32(_precision(precision, self.device), self.device)
        with strip_height(rows), own_state(self.device, tf32=tf32), torch.enable_grad():
            return self._update(method, height, width, precision)

    def _update(self, method: str, height: int, width: int, precision: str) -> Row:
        image, mask = self.picture(height, width)
        mode = FrozenGradients(torch.bfloat16 if precision == "bfloat16" else None)
        with torch.no_grad(), mode:
            features = [leaf.float().clone().requires_grad_() for leaf in self.model.front(image, mask)]
        rear = self._rear(method)

        def loss() -> Tensor:
            if method.startswith("frozen"):
                with mode:
                    prediction = rear((features[0], features[1])).float()
            else:
                prediction = rear((features[0], features[1]))
            return functional.l1_loss(prediction, image)

        def run() -> None:
            torch.autograd.grad(loss(), features)

        kept = saved_bytes(loss)
        median, spread = seconds(run, repeats=self.repeats, device=self.device)
        with Peak(self.device) as peak:
            run()
        return Row("update", method, width, height, precision, median, spread, peak.bytes, kept)

    def descent(self, method: str, height: int, width: int, precision: str) -> Row:
        """All predictions and updates of the whole picture as one window, from a CUDA graph or one by one."""
        image, mask = self.picture(height, width)
        conv_dtype = torch.bfloat16 if precision == "bfloat16" else None
        hole = mask > 0
        coarse = functional.interpolate(image, scale_factor=0.5, mode="bilinear")
        tf32 = uses_tf32(_precision(precision, self.device), self.device)
        with own_state(self.device, tf32=tf32):
            with FrozenGradients(conv_dtype):
                features = run_front(self.model, image, hole)
            objective = paper_objective(Target(image, hole, coarse, (height, width)))

            def run() -> None:
                optimize_features(
                    lambda features: run_rear(self.model, features, image), lambda: features, objective,
                    steps=self.steps, lr=0.002, keep="best", conv_dtype=conv_dtype,
                )  # fmt: skip

            with nullcontext() if method == "recorded" else no_recording():
                median, spread = seconds(run, repeats=self.repeats, device=self.device)
                with Peak(self.device) as peak:
                    run()
        note = f"{self.steps} predictions"
        return Row("descent", method, width, height, precision, median, spread, peak.bytes, note=note)

    def refinement(self, height: int, width: int, precision: str, windows: str) -> Row:
        """A whole refinement by features, with `steps` predictions at each refined scale."""
        settings = Settings(
            detail="features",
            start="model",
            min_side=self.min_side,
            steps=self.steps,
            back_projection=0,
            keep="last",
            windows=windows,  # type: ignore[arg-type]
            precision=precision,  # type: ignore[arg-type]
            memory=self.memory,
            **_UNFINISHED,
        )
        return self._refined("refinement", "refiner, whole" if windows == "off" else "refiner, windows", height, width,
                             settings)  # fmt: skip

    def default(self, height: int, width: int, precision: str) -> Row:
        """A whole refinement by features with the default settings, without those of `_UNFINISHED`."""
        settings = Settings(
            detail="features", start="model", min_side=self.min_side, precision=precision, memory=self.memory,  # type: ignore[arg-type]
            **_UNFINISHED,
        )  # fmt: skip
        return self._refined("default", "refiner, default preset", height, width, settings)

    def _refined(self, what: str, method: str, height: int, width: int, settings: Settings) -> Row:
        image, mask = self.picture(height, width)
        with Peak(self.device) as peak:
            meter = Meter()
            result = refine(self.model, image, mask, settings)
            synchronize(self.device)
            usage = meter.read()
        if settings.windows == "off":
            self.results[height, width, settings.precision] = result.image
        self.smallest.setdefault((height, width), (result.scales[0].composite, len(result.scales)))
        note = f"{len(result.scales) - 1} refined scales, {settings.steps} predictions each; {result.plan}"
        return Row(
            what, method, width, height, settings.precision, usage.seconds, None, peak.bytes, note=note,
            kernel_share=usage.kernel_share, cores=usage.cores, faults=usage.faults,
            objective=self.objective(result.image),
        )  # fmt: skip

    def objective(self, picture: Tensor) -> float | None:
        """The paper's objective of a result that is halved down to the first refined scale.

        The coarser scale is the network's own fill of the smallest scale, the same for every method. None where nothing
        of this size was refined before.
        """
        height, width = picture.shape[-2], picture.shape[-1]
        if (height, width) not in self.smallest or self.smallest[height, width][1] == 1:
            return None
        coarse, scales = self.smallest[height, width]
        image, mask = self.picture(height, width)
        levels = build_pyramid(image, mask > 0, scales)
        for _ in range(scales - 2):
            picture = halve_image(picture)
        level, hole = levels[1]
        target = Target(level, hole, coarse, (level.shape[-2], level.shape[-1]))
        return float(paper_objective(target)(picture.to(level)))

    def plain(self, height: int, width: int, precision: str) -> Row:
        """One pass of the network, without refinement."""
        image, mask = self.picture(height, width)
        settings = Settings(refine=False, precision=precision)  # type: ignore[arg-type]
        with Peak(self.device) as peak:
            start = time.perf_counter()
            refine(self.model, image, mask, settings)
            synchronize(self.device)
            taken = time.perf_counter() - start
        return Row("plain", "refiner", width, height, precision, taken, None, peak.bytes)

    def overhead(self, height: int, width: int, precision: str) -> Row:
        """What a call takes beside its predictions, with the default settings as in `default`; see the note."""
        image, mask = self.picture(height, width)
        settings = Settings(
            detail="features", start="model", min_side=self.min_side, precision=_precision(precision, self.device),
            memory=self.memory, **_UNFINISHED,
        )  # fmt: skip
        fresh = LamaInpainter(self.generator).to(self.device)  # of which nothing is known
        with Peak(self.device) as peak:
            found = overhead(fresh, image, mask, settings)
        return Row(
            "overhead", "refiner, default preset", width, height, precision, found.before + found.after, None,
            peak.bytes, note=found.note(), overhead=found,
        )  # fmt: skip

    def authors(self, reference: Reference, height: int, width: int, precision: str) -> Row:
        """The authors' refinement in the same precision; the note says how far our result is from theirs.

        Their code asks for none: PyTorch's own default on NVIDIA GPUs is convolutions in TF32.
        """
        image, mask = self.picture(height, width)
        tf32 = uses_tf32(_precision(precision, self.device), self.device)
        with own_state(self.device, tf32=tf32), torch.enable_grad(), Peak(self.device) as peak:
            meter = Meter()
            theirs = reference.refine(image, mask, steps=self.steps, lr=0.002, min_side=self.min_side)
            synchronize(self.device)
            usage = meter.read()
        note = f"{self.steps} predictions"
        ours = self.results.get((height, width, precision))
        if ours is not None:
            difference = (ours - theirs.to(image.device)).abs()
            note += (
                f"; ours differs by {difference.max().item():.1e} at most, {difference.mean().item():.1e} on average"
            )
        return Row(
            "refinement", "advimman/lama", width, height, precision, usage.seconds, None, peak.bytes, note=note,
            kernel_share=usage.kernel_share, cores=usage.cores, faults=usage.faults, objective=self.objective(theirs),
        )  # fmt: skip

    def _rear(self, method: str) -> Callable[[tuple[Tensor, Tensor]], Tensor]:
        if method.startswith("frozen"):
            return self.model.rear
        generator = self.generator.to(self.device)
        if method == "autograd":
            return generator.rear
        if method == "checkpoint":

            def in_blocks(features: Any) -> Any:
                layers = list(generator.model)[generator.split :]
                for layer in layers[: generator.config.n_blocks]:
                    features = checkpoint(layer, features, use_reentrant=False)
                for layer in layers[generator.config.n_blocks :]:
                    features = layer(features)
                return features

            return in_blocks
        package = importlib.import_module("memsave_torch.nn")
        converted: Generator = package.convert_to_memory_saving(generator)
        return converted.rear
