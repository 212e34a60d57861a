"""`refiner web`: the page in the browser."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refiner.cli.collector import look_again
from refiner.cli.refine_options import refine_options
from refiner.cli.spelling import spell
from refiner.errors import InputError, Option

if TYPE_CHECKING:
    from refiner.cli.refine_options import Choices

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("photo", metavar="[PHOTO]", type=_PATH, required=False)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; others need a token.")
@click.option("--port", type=click.IntRange(0, 65535), metavar="N", help="[default: 8430, or any if it is taken]")
@click.option("--name", "names", multiple=True, metavar="HOST", help="A further name, as of a proxy; needs a token.")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@click.option("-o", "--output", type=_PATH, metavar="DIR", help="Also write every result to this folder.")
@click.option("--segmenter", type=_PATH, metavar="FILE", help="Select objects by clicks with this encoder (ONNX).")
@click.option("--save-beside", is_flag=True, help="Also write PHOTO's results beside it.")
@click.option("--max-upload", default="300MB", show_default=True, metavar="SIZE", help="Of a photo's file.")
@click.option(
    "--max-megapixels",
    type=click.FloatRange(0, min_open=True),
    default=150,
    show_default=True,
    metavar="N",
    help="Of a photo.",
)
@click.option("--max-disk", default="20GB", show_default=True, metavar="SIZE", help="Of all photos and results.")
@click.option(
    "--keep",
    "hours",
    type=click.FloatRange(0, min_open=True),
    default=24,
    show_default=True,
    metavar="HOURS",
    help="How long a photo that nobody looks at is kept.",
)
@refine_options
def web(
    photo: Path | None,
    *,
    host: str,
    port: int | None,
    names: tuple[str, ...],
    no_browser: bool,
    output: Path | None,
    save_beside: bool,
    segmenter: Path | None,
    choices: Choices,
    **limits: Any,
) -> None:
    """Open a page to paint over what is to go, and get the full-size photo back.

    Prints the page's address and serves until it is interrupted. PHOTO is opened at once.
    """
    if photo is not None and not photo.is_file():
        raise InputError(f"{photo}: no such image file; check the path.")
    if save_beside and photo is None:
        raise InputError("--save-beside: needs a PHOTO to save beside.")
    if choices.idle():
        raise InputError(f"{', '.join(choices.idle())}: without effect together with --no-refine.")
    # PyTorch's threads sleep while they wait for each other: where a browser or others use the same cores too, they
    # would spend most of their time on waiting. This is read when PyTorch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        from refiner.web.serve import Address, serve  # noqa: PLC0415  an extra
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in ("starlette", "uvicorn"):
            raise
        raise InputError('The page needs Starlette and Uvicorn: pip install "refiner-inpainting[web]".') from None
    from refiner.memory import manage_allocator  # noqa: PLC0415
    from refiner.web.offer import Defaults  # noqa: PLC0415
    from refiner.web.service import Config  # noqa: PLC0415

    manage_allocator()
    look_again()
    defaults = Defaults(
        choices.model, choices.weights, choices.preset, choices.device, choices.given, refine=choices.refine
    )
    folder = None if output is None else output.absolute()
    file = None if photo is None else photo.absolute()
    model = None if segmenter is None else segmenter.absolute()
    config = Config(defaults, _limits(**limits), output=folder, photo=file, save_beside=save_beside, segmenter=model)
    serve(config, Address(host, port, names), click.echo, browser=not no_browser)


def _limits(max_upload: str, max_megapixels: float, max_disk: str, hours: float) -> Any:
    from refiner.web.limits import Limits  # noqa: PLC0415

    return Limits(
        upload_bytes=_size("max_upload", max_upload),
        megapixels=max_megapixels,
        disk_bytes=_size("max_disk", max_disk),
        keep_seconds=3600 * hours,
    )


def _size(name: str, text: str) -> int:
    from refiner.byte_sizes import parse_bytes  # noqa: PLC0415

    try:
        return parse_bytes(text)
    except ValueError as error:
        raise InputError(f"{spell(Option(name))}: {error}.") from error
