"""All that these nodes ask of ComfyUI: folders, progress, Interrupt, memory."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.utils
import folder_paths
from comfy import model_management
from torch import nn
from torch.nn import functional

import refiner
from refiner.cli.console import share_done
from refiner.images.picture import from_rgb
from refiner.memory import trim

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

_WEIGHTS = (".safetensors", ".pt", ".ckpt")
_FOLDER = "inpaint"  # folder in ComfyUI's models/ where other inpainting nodes keep their weights
_PARTS = 1000  # of the progress bar
_PREVIEW = 1024  # pixels on the longer side; ComfyUI shrinks it to what its user set

_log = logging.getLogger("refiner")


def input_files(suffixes: frozenset[str]) -> list[str]:
    """Names of the files in ComfyUI's input folder that end in one of the suffixes."""
    folder = Path(folder_paths.get_input_directory())
    return sorted(path.name for path in folder.iterdir() if path.is_file() and path.suffix.lower() in suffixes)


def input_path(name: str) -> Path:
    """The file that ComfyUI calls `name`, in its input folder or in the one that the name says.

    Raises:
        InputError: the file is outside ComfyUI's folders, where others than its owner must not read.
    """
    path = Path(os.path.normpath(folder_paths.get_annotated_filepath(name)))
    folders = (
        folder_paths.get_input_directory(),
        folder_paths.get_output_directory(),
        folder_paths.get_temp_directory(),
    )
    if not any(path.is_relative_to(os.path.normpath(folder)) for folder in folders):
        raise refiner.InputError(f"{name}: is not in ComfyUI's folders; put the photo into its input folder.")
    return path


def output_path(prefix: str, size: tuple[int, int], suffix: str) -> tuple[Path, str]:
    """A new file's path in ComfyUI's output folder, and its subfolder there."""
    height, width = size
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
        prefix, folder_paths.get_output_directory(), width, height
    )
    return Path(folder) / f"{name}_{counter:05}_{suffix}", subfolder


def preview_path(name: str) -> Path:
    """A file's path in ComfyUI's folder of temporary files."""
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def weights_files() -> dict[str, Path]:
    """Weights in ComfyUI's folder `models/inpaint`, by name."""
    folder_paths.add_model_folder_path(_FOLDER, str(Path(folder_paths.models_dir) / _FOLDER))
    names = [name for name in folder_paths.get_filename_list(_FOLDER) if name.lower().endswith(_WEIGHTS)]
    return {name: Path(folder_paths.get_full_path(_FOLDER, name)) for name in names}


def say(lines: list[str]) -> None:
    """Tell the user: in the log, and on the node where ComfyUI can."""
    for line in lines:
        _log.info(line)
    try:
        from comfy_execution.utils import get_executing_context  # noqa: PLC0415  only in newer versions
        from server import PromptServer  # noqa: PLC0415
    except ImportError:
        return
    context = get_executing_context()
    if context is not None and hasattr(PromptServer.instance, "send_progress_text"):
        PromptServer.instance.send_progress_text("\n".join(lines), context.node_id)


@contextmanager
def placed(network: refiner.Inpainter) -> Iterator[torch.device]:
    """Put a network on ComfyUI's device while the block runs; then move it back and give its memory back."""
    device = model_management.get_torch_device()
    if not isinstance(network, nn.Module):  # it chooses its device itself
        yield device
        return
    make_room(sum(part.numel() * part.element_size() for part in network.parameters()))
    before = next((part.device for part in network.parameters()), device)
    try:
        network.to(device)
        yield device
    finally:
        network.to(before)


def give_memory_back() -> None:
    """Keep nothing for a next time, which may never come: neither PyTorch nor the C library."""
    model_management.soft_empty_cache()
    trim(asked=True)


def without_frames(error: BaseException) -> BaseException:
    """An error without its traceback: ComfyUI keeps the last error, and with it all that the frames hold.

    What only a traceback explains is written to the log first.
    """
    if not isinstance(error, (refiner.RefinerError, getattr(model_management, "InterruptProcessingException", ()))):
        _log.error("The node failed.", exc_info=error)
    held: BaseException | None = error
    while held is not None:
        held.__traceback__ = None
        held = held.__cause__ or held.__context__
    return error


def make_room(size: int) -> None:
    """Have ComfyUI unload its own models until `size` bytes are free where it computes."""
    model_management.free_memory(size, model_management.get_torch_device())


class ProgressBar:
    """ComfyUI's progress bar over the pictures of a batch, its preview, and its Interrupt.

    Args:
        pictures: how many there are.
    """

    def __init__(self, pictures: int) -> None:
        self._bar = comfy.utils.ProgressBar(_PARTS)
        self._pictures = pictures
        self._done = 0
        self._part = 0.0  # share of the current picture that is done

    def on_plan(self, _: refiner.Plan) -> None:
        """End the work before it starts where the user pressed Interrupt meanwhile."""
        model_management.throw_exception_if_processing_interrupted()

    def on_step(self, progress: refiner.Progress) -> None:
        """Show one more prediction; ends the work where the user pressed Interrupt."""
        model_management.throw_exception_if_processing_interrupted()
        self._part = share_done(progress)
        self._bar.update_absolute(self._value())

    def on_scale(self, scale: refiner.ScaleResult) -> None:
        """Show a scale's result."""
        picture = scale.composite[:1].float()
        factor = _PREVIEW / max(picture.shape[2:])
        if factor < 1:
            picture = functional.interpolate(picture, scale_factor=factor, mode="area")
        preview = from_rgb(picture).to_pil()
        self._bar.update_absolute(self._value(), preview=("JPEG", preview, _PREVIEW))

    def picture_done(self) -> None:
        """Go on to the next picture."""
        self._done, self._part = self._done + 1, 0.0
        self._bar.update_absolute(self._value())

    def _value(self) -> int:
        return round(_PARTS * (self._done + self._part) / self._pictures)
