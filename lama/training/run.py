"""Run a training from its start, or from where it stopped, to its end."""

from __future__ import annotations

import io
import json
import signal
import time
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
import yaml

from lama.checkpoint import DAMAGE, HEADER, convert
from lama.training.data import Crops, batches, held_out_crops
from lama.training.evaluate import SHEET_ROWS, CsvLog, baselines, fill, score, write_sheet
from refiner.errors import InputError, ModelError
from refiner.files import make_folder, write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import Tensor

    from lama.training.config import TrainingConfig
    from lama.training.data import PhotoSet
    from lama.training.trainer import Trainer

_LOSSES = ("known_l1", "hole_l1", "adversarial", "feature_matching", "perceptual", "discriminator", "penalty")
_LOG_EVERY = 50


class Run:
    """A training, and its folder with state, logs and sample sheets.

    Args:
        config: the run's settings.
        trainer: does the steps.
        photos: to train on.
        held_out: to evaluate on.
        out: the folder: `state.pt`, `training.csv`, `evaluation.csv`, `sheets/`.
        say: called with a line for the user from time to time.
        header: metadata of the weights that the training began with; their learning rate is exported again.
        log_every: steps between lines of the log.

    Attributes:
        elapsed: seconds of training so far, with those before a restart.
        held_out: crops to evaluate on, and their holes.
    """

    def __init__(
        self,
        config: TrainingConfig,
        trainer: Trainer,
        photos: PhotoSet,
        held_out: PhotoSet,
        out: Path,
        say: Callable[[str], object],
        *,
        header: dict[str, str] | None = None,
        log_every: int = _LOG_EVERY,
    ) -> None:
        self.config, self.trainer, self.out = config, trainer, out
        self._say, self._log_every = say, log_every
        self._crops = Crops(photos, config.data, config.seed)
        self.held_out = held_out_crops(held_out, config.data, config.evaluation_crops)
        self.elapsed = 0.0
        self._inputs = {
            "photos": list(photos.names),
            "held-out photos": list(held_out.names),
            "perceptual loss": trainer.perceptual is not None,
        }
        self._header = header or {}

    def resume(self) -> None:
        """Go on from the state that was saved last.

        Raises:
            InputError: there is no state, or it is of another configuration.
            ModelError: the state is damaged.
        """
        saved = read_state(self.out)
        ours = _comparable(self.config) | self._inputs
        theirs = saved["config"] | saved["inputs"]
        differing = sorted(key for key in ours if ours[key] != theirs.get(key))
        if differing:
            raise InputError(
                f"{self.out}: was trained with another {', '.join(differing)}; give what it was started with, or "
                "another --out."
            )
        self.trainer.load_state(saved["trainer"])
        self._header = saved["header"]
        self.elapsed = saved["elapsed"]

    def train(self, *, steps: int | None = None, minutes: float | None = None) -> bool:
        """Train to the end, or until asked to stop by a signal; the state is saved either way.

        Args:
            steps: length of the training; the configuration's where None.
            minutes: length of the training in minutes instead, with those before a restart.

        Returns:
            Whether the end was reached.
        """
        steps = steps or self.config.steps
        trainer = self.trainer
        losses, scores = self._logs()
        if trainer.step_count == 0:
            self._evaluate_baselines(scores)
        meter = _Meter(self.config.data.batch)
        stream_from_here = batches(self._crops, start=trainer.step_count, workers=self.config.data.workers)
        # Closed in any case: workers ignore signals, and this process does not end before they do.
        with _stop_requested() as stopped, closing(stream_from_here) as stream:
            while not stopped() and (share := self.share_done(steps, minutes)) < 1:
                self.elapsed += meter.add(trainer.step(*next(stream), share))
                if trainer.step_count % self._log_every == 0:
                    self._log(losses, meter, share)
                if trainer.step_count % self.config.evaluate_every == 0:
                    self._evaluate(scores)
                    meter.skip_pause()  # the time of an evaluation does not count
                if trainer.step_count % self.config.save_every == 0:
                    self.save()
        finished = self.share_done(steps, minutes) >= 1
        if finished and trainer.step_count % self.config.evaluate_every:
            self._evaluate(scores)
        self.save()
        return finished

    def save(self) -> None:
        """Keep the state, whole or not at all."""
        data = io.BytesIO()
        content = {
            "config": _comparable(self.config),
            "inputs": self._inputs,
            "header": self._header,
            "elapsed": self.elapsed,
            "trainer": self.trainer.state(),
        }
        torch.save(content, data)
        write_atomic({self.out / "state.pt": data.getvalue()})

    def share_done(self, steps: int, minutes: float | None) -> float:
        """Share of the training that is done, measured in minutes where they are given, else in steps."""
        return self.trainer.step_count / steps if minutes is None else self.elapsed / (60 * minutes)

    def _logs(self) -> tuple[CsvLog, CsvLog]:
        """The tables of losses and of scores; where a training is resumed, rows later than its state are dropped."""
        step = self.trainer.step_count
        losses = ["step", "minutes", "images_per_second", *_LOSSES]
        scores = ["step", "minutes", "fill", "l1", "ssim", "texture", "texture_0", "texture_1", "texture_2"]
        return (
            CsvLog(self.out / "training.csv", losses, keep_to_step=step),
            CsvLog(self.out / "evaluation.csv", scores, keep_to_step=step),
        )

    def _log(self, losses: CsvLog, meter: _Meter, share: float) -> None:
        step, (means, rate) = self.trainer.step_count, meter.read()
        losses.add(step=step, minutes=self.elapsed / 60, images_per_second=rate, **means)
        parts = ", ".join(f"{name} {value:.4f}" for name, value in means.items())
        self._say(f"{share:6.1%}  step {step}  {rate:.1f} images/s  {parts}")

    def _evaluate_baselines(self, scores: CsvLog) -> None:
        """Score the fills that need no training, and the network as it is at the start."""
        for name, filled in baselines(*self.held_out).items():
            scores.add(step=0, fill=name, **score(filled, *self.held_out))
        self._evaluate(scores)

    def _evaluate(self, scores: CsvLog) -> None:
        pictures, holes = self.held_out
        step = self.trainer.step_count
        filled = fill(self.trainer.average, pictures, holes)
        found = score(filled, pictures, holes)
        scores.add(step=step, minutes=self.elapsed / 60, fill="model", **found)
        head = slice(0, SHEET_ROWS)
        shown = [pictures[head], pictures[head] * (1 - holes[head]), filled[head]]
        telea = baselines(pictures[head], holes[head]).get("telea")
        write_sheet(self.out / "sheets" / f"{step:07d}.png", shown if telea is None else [*shown, telea])
        self._say(f"held out  step {step}  " + ", ".join(f"{name} {value:.4f}" for name, value in found.items()))


class _Meter:
    """Losses and speed since the meter was last read."""

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._losses: list[dict[str, Tensor]] = []
        self._mark = self._last = time.monotonic()

    def add(self, losses: dict[str, Tensor]) -> float:
        """Note a step's losses; gives the seconds that the step took."""
        self._losses.append(losses)
        before, self._last = self._last, time.monotonic()
        return self._last - before

    def read(self) -> tuple[dict[str, float], float]:
        """Mean losses and images a second; starts over."""
        means, rate = _means(self._losses), len(self._losses) * self._batch / (self._last - self._mark)
        self._losses, self._mark = [], self._last
        return means, rate

    def skip_pause(self) -> None:
        """Leave out the time since the last step."""
        self._mark = self._last = time.monotonic()


def read_state(out: Path) -> dict[str, Any]:
    """A training's saved state.

    Raises:
        InputError: there is no state.
        ModelError: the state is damaged.
    """
    path = out / "state.pt"
    if not path.is_file():
        raise InputError(f"{out}: has no state.pt to go on from; start a training there without --resume.")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        # The callers rely on these keys.
        state["trainer"]["average"], state["config"], state["inputs"], state["header"], state["elapsed"]
    except DAMAGE as error:
        raise ModelError(f"{path}: not a readable training state; start again in another --out.") from error
    return state


def export(out: Path, target: Path, *, half: bool, learning_rate: float | None = None) -> None:
    """Write a training's averaged generator: safetensors, or a folder in the public layout.

    Args:
        out: the training's folder.
        target: a name ending in `.safetensors`; any other is a folder for `models/best.ckpt`.
        half: store float16 (safetensors only).
        learning_rate: learning rate for refinement, noted in the file; None for that of the weights the training began
            with.

    Raises:
        InputError: there is no state, or the target cannot be written.
        ModelError: the state is damaged.
    """
    state = read_state(out)
    prefix = "module."
    tensors = {
        "generator." + name.removeprefix(prefix): tensor
        for name, tensor in state["trainer"]["average"].items()
        if name.startswith(prefix)
    }
    data = io.BytesIO()
    torch.save({"state_dict": tensors}, data)
    known = {"train_size": str(state["config"]["data"]["crop"]), "steps": str(state["trainer"]["step"])}
    rate = learning_rate or state["header"].get("learning_rate")
    if rate is not None:
        known["learning_rate"] = str(rate)
    if not is_file_target(target):
        make_folder(target / "models")
        config = yaml.safe_dump(_public_config(state["config"]["generator"]) | {HEADER: known}, sort_keys=False)
        write_atomic({target / "models" / "best.ckpt": data.getvalue(), target / "config.yaml": config.encode()})
        return
    staged = out / "export.ckpt"
    write_atomic({staged: data.getvalue()})
    try:
        convert(staged, target, dtype=torch.float16 if half else torch.float32, **known)
    finally:
        staged.unlink()


def is_file_target(target: Path) -> bool:
    """Whether an export goes to one file, not to a folder."""
    return target.suffix == ".safetensors"


def _public_config(sizes: dict[str, int]) -> dict[str, Any]:
    """The keys of `config.yaml` that tools for the public layout need."""
    share = sizes["global_channels"] / (sizes["ngf"] * 2 ** sizes["n_downsampling"])
    plain = {"ratio_gin": 0, "ratio_gout": 0, "enable_lfu": False}
    return {
        "training_model": {"kind": "default", "concat_mask": True},
        "generator": {
            "kind": "ffc_resnet",
            "input_nc": 4,
            "output_nc": 3,
            "ngf": sizes["ngf"],
            "n_downsampling": sizes["n_downsampling"],
            "n_blocks": sizes["n_blocks"],
            "add_out_act": "sigmoid",
            "init_conv_kwargs": plain,
            "downsample_conv_kwargs": dict(plain),
            "resnet_conv_kwargs": {"ratio_gin": share, "ratio_gout": share, "enable_lfu": False},
        },
    }


def _comparable(config: TrainingConfig) -> dict[str, Any]:
    """The settings that a restart must not change, in values that JSON takes; the length may change."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    free = ("steps", "evaluate_every", "save_every")
    values["data"].pop("workers")
    return {key: value for key, value in values.items() if key not in free}


def _means(rows: list[dict[str, Tensor]]) -> dict[str, float]:
    names = [name for name in _LOSSES if any(name in row for row in rows)]
    return {name: torch.stack([row[name] for row in rows if name in row]).mean().item() for name in names}


@contextmanager
def _stop_requested() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and termination let the step end, so that the state can be saved; a second Ctrl-C ends at once."""
    asked = False

    def ask(number: int, _frame: object) -> None:
        nonlocal asked
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
