"""`python -m lama.training`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lama.checkpoint import load_generator
from lama.training.config import TrainingConfig, load_config
from lama.training.data import PhotoSet, hold_out, keep_photos
from lama.training.perceptual import load_perceptual
from lama.training.run import Run, export, is_file_target
from lama.training.trainer import Trainer
from lama.weights import LAMA_SMALL
from refiner.cli.exits import INTERRUPTED, Command
from refiner.devices import pick_device
from refiner.errors import InputError
from refiner.files import check_target

if TYPE_CHECKING:
    import torch

    from lama.generator import Generator


def _say(line: str) -> None:
    click.echo(line, err=True)


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="YAML file of the run's settings.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder of photos.")
@click.option(
    "--held-out", type=click.Path(path_type=Path), help="Folder of photos to evaluate on (default: some of --data)."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for state, logs and sample sheets.")
@click.option(
    "--init", type=click.Path(path_type=Path), help="Weights to go on from: a LaMa checkpoint, or lama-small."
)
@click.option("--resume", is_flag=True, help="Go on from the state in --out.")
@click.option("--steps", type=click.IntRange(1), help="Length of the training (default: the configuration's).")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Length in minutes instead.")
@click.option(
    "--perceptual-weights", type=click.Path(path_type=Path), help="encoder_epoch_20.pth of the ADE20K ResNet-50."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N.")
@click.option(
    "--export",
    "target",
    type=click.Path(path_type=Path),
    help="Write the model here when done, or at once without --data: NAME.safetensors, or a folder (public layout).",
)
@click.option("--half/--full", default=True, show_default=True, help="Store float16 in safetensors.")
@click.option(
    "--refine-lr",
    type=click.FloatRange(0, min_open=True),
    help="Learning rate for refinement to note in the exported file.",
)
@click.option("--overwrite", is_flag=True, help="Replace what --export names.")
def main(
    config_path: Path | None,
    data: Path | None,
    held_out: Path | None,
    out: Path,
    init: Path | None,
    resume: bool,
    steps: int | None,
    minutes: float | None,
    perceptual_weights: Path | None,
    device: str,
    target: Path | None,
    half: bool,
    refine_lr: float | None,
    overwrite: bool,
) -> int:
    """Train a LaMa generator on a folder of photos."""
    finished = True
    if target is not None:
        _check_export(target, overwrite=overwrite)
    if data is not None:
        if config_path is None:
            raise InputError("--config: must be given to train; see configs/training.")
        config = load_config(config_path)
        run = _prepare(config, data, held_out, out, init, perceptual_weights, pick_device(device), resume=resume)
        finished = run.train(steps=steps, minutes=minutes)
    elif target is None:
        raise InputError("--data: must be given to train, or --export to write what --out has learnt.")
    if target is not None and finished:
        export(out, target, half=half, learning_rate=refine_lr)
        _say(f"wrote {target}")
    if finished:
        return 0
    _say(f"stopped; go on with --resume --out {out}")
    return INTERRUPTED


def _check_export(target: Path, *, overwrite: bool) -> None:
    """Refuse, before hours of training, an export that could not be written after them."""
    if is_file_target(target):
        check_target(target, overwrite=overwrite)
        return
    if target.is_file() or (target.is_dir() and any(target.iterdir()) and not overwrite):
        raise InputError(f"{target}: exists already; give a name in .safetensors, an empty folder, or --overwrite.")
    above = next(path for path in target.absolute().parents if path.exists())
    if not above.is_dir():
        raise InputError(f"{target}: {above} is a file; choose another folder.")


def _prepare(
    config: TrainingConfig,
    data: Path,
    held_out: Path | None,
    out: Path,
    init: Path | None,
    perceptual_weights: Path | None,
    device: torch.device,
    *,
    resume: bool,
) -> Run:
    if (out / "state.pt").is_file() and not resume:
        raise InputError(f"{out}: has a training already; add --resume to go on with it, or choose another --out.")
    if resume and init is not None:
        raise InputError("--init: has no effect together with --resume, which goes on from the state; leave one out.")
    perceptual = None
    if perceptual_weights is not None:
        perceptual = load_perceptual(perceptual_weights)
    elif config.losses.perceptual > 0:
        _say("perceptual loss: left out, since --perceptual-weights is not given")
    generator, header = (None, None) if init is None else _initial(init, config)
    trainer = Trainer(config, device, perceptual=perceptual, init=generator)
    photos = _photos(data, config, out, exclude=held_out)
    others = _photos(held_out, config, out) if held_out is not None else None
    if others is None:
        photos, others = hold_out(photos, config.data.held_out)
    _say(f"{len(photos)} photos to train on, {len(others)} held out; on {device}")
    run = Run(config, trainer, photos, others, out, _say, header=header)
    if resume:
        run.resume()
    return run


def _photos(folder: Path, config: TrainingConfig, out: Path, *, exclude: Path | None = None) -> PhotoSet:
    return keep_photos(
        folder,
        out / "cache",
        side=config.data.working_side,
        min_side=config.data.crop,
        on_skip=lambda path, reason: _say(f"{path}: left out: {reason}"),
        exclude=exclude,
    )


def _initial(weights: Path, config: TrainingConfig) -> tuple[Generator, dict[str, str]]:
    path = LAMA_SMALL.locate() if str(weights) == LAMA_SMALL.name else weights
    generator, header = load_generator(path)
    if generator.config != config.generator:
        raise InputError(f"{weights}: is a {generator.config}, the configuration asks for a {config.generator}.")
    return generator, header


if __name__ == "__main__":
    main()
