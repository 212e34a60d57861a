"""`refiner weights`: which models there are, and conversion of their files."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def weights() -> None:
    """List models and convert their weights."""


@weights.command("list")
def list_models() -> None:
    """List the models known on this machine: name, what it is, where its file is."""
    from refiner.errors import RefinerError  # noqa: PLC0415
    from refiner.models.registry import describe_model, model_names  # noqa: PLC0415  imports PyTorch

    names = model_names()
    for name in names:
        try:
            line = describe_model(name)
        except RefinerError as error:  # one broken package does not hide the others
            line = str(error)
        click.echo(f"{name.ljust(max(map(len, names)))}  {line}")


@weights.command()
@click.argument("source", metavar="SRC", type=click.Path(path_type=Path))
@click.argument("target", metavar="DST.safetensors", type=click.Path(path_type=Path))
@click.option("--half", is_flag=True, help="Store float16: half the size, rounded to 3 digits.")
@click.option(
    "--train-size",
    type=click.IntRange(min=16),
    metavar="PIXELS",
    help="Side the model was trained for, noted in the file [default: as the source says, else 512].",
)
@click.option("--native-side", "old_train_size", type=click.IntRange(min=16), hidden=True)  # its old name
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="X",
    help="What suits its features in refinement, noted in the file [default: as the source says, else 0.002].",
)
@click.option("--overwrite", is_flag=True, help="Replace DST where it exists.")
def convert(
    source: Path,
    target: Path,
    *,
    half: bool,
    train_size: int | None,
    old_train_size: int | None,
    learning_rate: float | None,
    overwrite: bool,
) -> None:
    """Turn a checkpoint into safetensors.

    SRC is a folder with config.yaml and models/best.ckpt, a pickled checkpoint, a TorchScript .pt, or
    safetensors.
    """
    from refiner.errors import InputError  # noqa: PLC0415
    from refiner.files import check_target  # noqa: PLC0415
    from refiner.models.registry import convert_weights  # noqa: PLC0415  imports PyTorch

    if target.suffix != ".safetensors":
        raise InputError(f"{target}: expected a name that ends in .safetensors.")
    check_target(target, overwrite=overwrite)
    if old_train_size is not None:
        click.echo("Warning: --native-side is called --train-size now.", err=True)
        train_size = train_size or old_train_size
    convert_weights(source, target, half=half, train_size=train_size, learning_rate=learning_rate)
    click.echo(target)
