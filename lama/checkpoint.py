"""Read LaMa checkpoints of all public file layouts, and write safetensors.

The layouts are a directory (`config.yaml` + `models/best.ckpt`, Lightning), a pickled checkpoint, the TorchScript file
`big-lama.pt`, and safetensors. For every layout, tensors are named `model.<i>...` here: the prefix before the last
`model.<i>.` differs between tools and is dropped.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from lama.generator import Generator, GeneratorConfig
from lama.regular import RegularConfig, RegularGenerator
from refiner.config_files import read_mapping
from refiner.errors import ModelError, SettingsError, first_line
from refiner.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

_NAME = re.compile(r"(?:^|.*\.)(model\.\d+\..+)$")
_GENERATOR = re.compile(r"(^|\.)generator\.")
HEADER = "refiner"  # key of `config.yaml` with the metadata that safetensors have in their header
# What the decoders raise on damaged or foreign files; a damaged pickle can raise any of them.
DAMAGE = (
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    pickle.UnpicklingError,
    SafetensorError,
)
_SHOWN_NAMES = 3  # names listed in an error before "and N more"


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a LaMa checkpoint of any known layout.

    Args:
        path: a file, or a directory that holds `models/best.ckpt`.

    Returns:
        The generator's tensors by their `model.<i>...` names, and the file's metadata (safetensors only).

    Raises:
        ModelError: the file is missing, unreadable, or holds no tensors named like a LaMa's.
    """
    file = path / "models" / "best.ckpt" if path.is_dir() else path
    if not file.is_file():
        expected = "models/best.ckpt in this folder" if path.is_dir() else "a weights file"
        raise ModelError(f"{path}: expected {expected}, found nothing there; check the path.")
    metadata = _noted(path / "config.yaml") if path.is_dir() else {}
    raw: Mapping[str, Any]
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as opened:
                metadata = dict(opened.metadata() or {})
                raw = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  not a dict
        else:
            # PyTorch warns of old or odd pickles and of TorchScript's end; here they only have to load.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                raw = _read_torchscript(file) if _is_torchscript(file) else _read_pickle(file)
    except DAMAGE as error:
        raise ModelError(
            f"{file}: not a readable weights file ({first_line(error)}); expected safetensors, "
            "a TorchScript .pt or a pickled checkpoint of tensors."
        ) from error
    return _generator_tensors(raw), dict(metadata)


def _noted(config: Path) -> dict[str, str]:
    """The metadata in a folder's `config.yaml`; {} where another tool wrote the file, or it is damaged."""
    try:
        noted = read_mapping(config).get(HEADER)
    except SettingsError:
        return {}
    return {str(name): str(value) for name, value in noted.items()} if isinstance(noted, dict) else {}


def load_network(path: Path) -> tuple[Generator | RegularGenerator, dict[str, str]]:
    """Build the network that a checkpoint holds, its kind and sizes inferred from the tensors' names and shapes.

    Returns:
        The network in float32 and eval mode, without gradients, and the file's metadata.

    Raises:
        ModelError: the file cannot be read or does not hold a LaMa generator; the message names the
            tensors that are missing or unexpected.
    """
    tensors, metadata = read_tensors(path)
    return _build(path, tensors), metadata


def _build(path: Path, tensors: Mapping[str, Tensor]) -> Generator | RegularGenerator:
    """Build the network that the tensors belong to, in float32 and eval mode, without gradients.

    Raises:
        ModelError: the tensors are not a LaMa generator's.
    """
    network: Generator | RegularGenerator
    try:
        with torch.device("meta"):
            if "model.1.weight" in tensors:
                network = RegularGenerator(RegularConfig.from_tensors(tensors))
            else:
                network = Generator(GeneratorConfig.from_tensors(tensors))
    except KeyError as missing:
        raise _not_a_lama(path, missing=[str(missing.args[0])], unexpected=list(tensors)) from None
    except DAMAGE as error:
        raise ModelError(
            f"{path}: not a LaMa generator: its tensors' shapes do not fit ({first_line(error)})."
        ) from error
    expected = _without_counters(network.state_dict())
    missing_names = [name for name in expected if name not in tensors]
    unexpected_names = [name for name in tensors if name not in expected]
    if missing_names or unexpected_names:
        raise _not_a_lama(path, missing=missing_names, unexpected=unexpected_names)
    for name, wanted in expected.items():
        if tensors[name].shape != wanted.shape:
            raise ModelError(
                f"{path}: not a LaMa generator: {name} has shape {tuple(tensors[name].shape)}, "
                f"expected {tuple(wanted.shape)}."
            )
    # Assigned: `to_empty` asks PyTorch's references for shapes, which import half a second of symbolic algebra.
    counters = {name: torch.tensor(0) for name in network.state_dict() if name not in expected}
    network.load_state_dict({name: tensors[name].float().clone() for name in expected} | counters, assign=True)
    return network.eval().requires_grad_(False)


def load_generator(path: Path) -> tuple[Generator, dict[str, str]]:
    """Like `load_network`, for a network that must have Fourier convolutions.

    Raises:
        ModelError: as in `load_network`, or the network is one of LaMa's ablations without them.
    """
    network, metadata = load_network(path)
    if not isinstance(network, Generator):
        raise ModelError(f"{path}: is a LaMa without Fourier convolutions; expected one with them.")
    return network, metadata


def convert(source: Path, target: Path, *, dtype: torch.dtype | None = None, **metadata: str) -> None:
    """Write any readable LaMa checkpoint as safetensors, atomically.

    Args:
        source: a checkpoint of any known layout.
        target: the file to write.
        dtype: what to store the tensors as; None keeps each tensor's own.
        metadata: text fields for the file's header; they replace those of the source.

    Raises:
        ModelError: the source is not a LaMa generator, or a value does not fit the dtype.
    """
    tensors, source_metadata = read_tensors(source)
    _build(source, tensors)  # refuses what is not a LaMa before anything is written
    stored = {name: t.to(dtype or t.dtype).contiguous() for name, t in tensors.items()}
    for name, tensor in stored.items():
        if not tensor.isfinite().all():
            raise ModelError(f"{source}: {name} has values that do not fit {tensor.dtype}; use float32.")
    write_atomic({target: save(stored, {"format": "pt", **source_metadata, **metadata})})


def _generator_tensors(raw: Mapping[str, Any]) -> dict[str, Tensor]:
    """Keep the generator's tensors under their short names."""
    named = {key: value for key, value in raw.items() if isinstance(value, torch.Tensor)}
    if any(_GENERATOR.search(key) for key in named):  # leave out discriminators and loss networks
        named = {key: value for key, value in named.items() if _GENERATOR.search(key)}
    matches = {key: _NAME.match(key) for key in named}
    # A name that does not fit the pattern stays as it is, so that a refusal can show it.
    return _without_counters({m.group(1) if m else key: named[key] for key, m in matches.items()})


def _without_counters(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop BatchNorm's step counters: training bookkeeping that some files have and others lack."""
    return {name: t for name, t in tensors.items() if not name.endswith("num_batches_tracked")}


def _is_torchscript(file: Path) -> bool:
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any("/code/" in name for name in archive.namelist())


def _read_torchscript(file: Path) -> dict[str, Tensor]:
    script = torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-untyped-call]
    tensors: dict[str, Tensor] = script.state_dict()
    return tensors


class _Inert:
    """Stands in for a training tool's class named in a pickle; it takes any arguments and does nothing."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass


def _read_pickle(file: Path) -> Mapping[str, Any]:
    # Lightning checkpoints name classes of the training tool beside the tensors. They load as inert
    # stand-ins: `weights_only=True` stays on and nothing named in the file is imported or run.
    names = torch.serialization.get_unsafe_globals_in_checkpoint(file) if zipfile.is_zipfile(file) else []
    with torch.serialization.safe_globals([(_Inert, name) for name in names]):
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    tensors = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(tensors, dict):
        raise ValueError(f"it holds a {type(loaded).__name__}, not named tensors")  # noqa: TRY004  reported as unreadable
    return tensors


def _not_a_lama(path: Path, *, missing: list[str], unexpected: list[str]) -> ModelError:
    found = [
        f"{label} {', '.join(names[:_SHOWN_NAMES])}"
        + (f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else "")
        for label, names in (("missing", missing), ("unexpected", unexpected))
        if names
    ]
    return ModelError(f"{path}: not a LaMa generator: {'; '.join(found)}.")
