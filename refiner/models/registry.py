"""Inpainters by name: whatever installed packages offer through entry points.

Group `refiner.inpainters`: a callable that takes an optional weights path and gives an `Inpainter`; where it
has a method `describe()`, `refiner weights list` shows that line. Group `refiner.checkpoints`: an object that
opens weights files given by path, see `CheckpointFormat`.
"""

from __future__ import annotations

import re
import sys
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from refiner.errors import ModelError, RefinerError, first_line
from refiner.models.inpainter import Inpainter
from refiner.torch_state import default_dtype, own_state

if TYPE_CHECKING:
    from collections.abc import Callable

INPAINTERS = "refiner.inpainters"
CHECKPOINTS = "refiner.checkpoints"
_IN_CODE = re.compile(r"[A-Za-z_][\w.]+:[A-Za-z_][\w.]*")  # a drive letter is one letter


class CheckpointFormat(Protocol):
    """What reads the weights files of one family of networks."""

    def open(self, path: Path) -> Inpainter:
        """Load the inpainter that the file or folder holds; raises `ModelError` where it does not."""
        ...

    def convert(
        self, source: Path, target: Path, *, half: bool, train_size: int | None, learning_rate: float | None
    ) -> None:
        """Write the weights as safetensors; raises `ModelError` where the source is not its own."""
        ...


def model_names() -> list[str]:
    """Names that `load_model` knows on this machine."""
    return sorted({entry.name for entry in entry_points(group=INPAINTERS)})


def best_model() -> str:
    """The name of the best model that is on this machine: what is used where none is named.

    An entry can have `is_here()`, whether it needs no download, and `rank`, a number; those without are not chosen.

    Raises:
        ModelError: there is none.
    """
    here = []
    for entry in entry_points(group=INPAINTERS):
        try:
            thing = _loaded(entry)
        except ModelError:  # another package's, broken; who names it is told
            continue
        if hasattr(thing, "rank") and thing.is_here():
            here.append((thing.rank, entry.name))
    if not here:
        raise ModelError("model: none is installed that could be used without a name; name one.")
    return max(here)[1]


def load_model(name: str, *, weights: Path | None = None) -> Inpainter:
    """Load an inpainter on the CPU in float32.

    Args:
        name: one of `model_names()`, the path of a weights file, or `module:attribute` for an inpainter in Python code,
            or a callable that gives one; modules are also looked for in the current folder.
        weights: a file to use in place of a named model's own.

    Raises:
        ModelError: the name is not known, or its weights cannot be had, read or used.
    """
    with own_state(), default_dtype(torch.float32), torch.device("cpu"):
        return _found(name, weights)


def _found(name: str, weights: Path | None) -> Inpainter:
    entry = _entry(name)
    if entry is not None:
        return _made(_loaded(entry), name, weights)
    path = Path(name)
    if not path.exists() and _IN_CODE.fullmatch(name):
        return _made(_imported(name), name, weights)
    if not path.exists():
        raise ModelError(
            f"unknown model {name!r}: expected one of {', '.join(model_names())}, the path of a weights file, or "
            "module:attribute."
        )
    if weights is not None:
        raise ModelError(f"{name}: is a path itself; give either a path as the model or separate weights.")
    opened: Inpainter = _first_that_can(lambda known: known.open(path), path)
    return opened


def describe_model(name: str) -> str:
    """One line on a named model."""
    entry = _entry(name)
    assert entry is not None  # noqa: S101  called with names from model_names()
    loader = _loaded(entry)
    if hasattr(loader, "describe") and not isinstance(loader, type):  # a class describes its instances
        return str(loader.describe())
    return str((loader.__doc__ or f"from {entry.value}").strip().splitlines()[0])


def convert_weights(
    source: Path,
    target: Path,
    *,
    half: bool = False,
    train_size: int | None = None,
    learning_rate: float | None = None,
) -> None:
    """Write a weights file of any known family as safetensors.

    Args:
        source: file or folder to read.
        target: file to write.
        half: store float16 in place of the source's own precision.
        train_size: side in pixels that the model was trained for, noted in the header.
        learning_rate: what suits its features when they are refined, noted in the header.

    Raises:
        ModelError: no installed package knows the source.
    """

    def attempt(known: CheckpointFormat) -> None:
        known.convert(source, target, half=half, train_size=train_size, learning_rate=learning_rate)

    _first_that_can(attempt, source)


def _made(offered: Any, name: str, weights: Path | None) -> Inpainter:
    """The inpainter that was offered, or that the callable offered makes."""
    model = offered
    if callable(offered) and (isinstance(offered, type) or not isinstance(offered, Inpainter)):
        try:
            model = offered(weights) if weights is not None else offered()
        except RefinerError:
            raise
        except Exception as error:  # user code can fail in any way
            raise ModelError(f"{name}: could not be made ({type(error).__name__}: {first_line(error)}).") from error
    elif weights is not None:
        raise ModelError(f"{name}: is a model itself and takes no separate weights.")
    if not isinstance(model, Inpainter):
        raise ModelError(
            f"{name}: gave a {type(model).__name__}, expected an object with front, rear and spec, as "
            "refiner.Inpainter describes them."
        )
    return model


def _imported(name: str) -> Any:
    """What `module:attribute` names."""
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:  # user code can fail in any way
        raise ModelError(f"{name}: cannot be imported ({type(error).__name__}: {first_line(error)}).") from error
    return found


def _first_that_can(attempt: Callable[[CheckpointFormat], Any], path: Path) -> Any:
    refusals = []
    for entry in entry_points(group=CHECKPOINTS):
        try:
            return attempt(_loaded(entry))
        except ModelError as refusal:  # noqa: PERF203  each format may refuse
            refusals.append(str(refusal))
    raise ModelError(" ".join(refusals) or f"{path}: no installed package can read weights files.")


def _entry(name: str) -> EntryPoint | None:
    return next(iter(entry_points(group=INPAINTERS, name=name)), None)


def _loaded(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except (Exception, SystemExit) as error:  # as of any foreign code
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise ModelError(f"{entry.name}: its package cannot be loaded from {entry.value} ({reason}).") from error
