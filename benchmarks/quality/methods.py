"""Our methods that are compared: a model, a way to fill holes with it, and settings."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.quality.fills import Filled
from refiner import Settings, __version__, load_model, refine
from refiner.engine.pyramid import build_pyramid, scale_count
from refiner.errors import InputError
from refiner.settings import load_preset

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.quality.cases import Case
    from refiner import Inpainter

# Settings that count for ways without refinement.
_USED = {"plain": ("precision", "match_color"), "upsampled": ("precision", "match_color", "min_side", "max_scales")}
_FILLED: dict[str, dict[str, Any]] = {
    "refined": {"start": "model", "detail": "features"},
    "exemplar": {"start": "exemplar", "detail": "exemplar"},
    "filled": {},
}
_WAYS = ("plain", "upsampled", "refined", "exemplar", "filled")


class Method:
    """A model and a way to fill holes with it.

    Args:
        name: `plain`, the model at full size; `upsampled`, the model at its training size, enlarged; `refined`, by its
            features; `exemplar`, by the photo's own pixels; `filled`, as the settings say. With `MODEL/` before it,
            another model than `default_model`; with `@PRESET` after it, the settings of a preset.
        default_model: name or path.
        settings: of the refinement.
        device: where to compute.
        models: the models loaded so far, by name; a new one is added.
        given: settings that replace those of any preset.

    Attributes:
        name: as given.
        described: model, digest of its weights, way, and the settings that count, with the values in force.

    Raises:
        InputError: there is no such way.
        ModelError: there is no such model.
        SettingsError: there is no such preset.
    """

    def __init__(
        self,
        name: str,
        default_model: str,
        settings: Settings,
        device: torch.device,
        models: dict[str, Any],
        given: Mapping[str, Any] | None = None,
    ) -> None:
        used, _, preset = name.partition("@")
        model, slash, way = used.rpartition("/")
        if way not in _WAYS:
            raise InputError(
                f"method {name!r}: expected [MODEL/]WAY[@PRESET], where WAY is {', '.join(_WAYS)}; or photo, telea, "
                "patchmatch, or NAME=FOLDER of fills made elsewhere."
            )
        if preset:
            settings = replace(load_preset(preset), **(given or {}))
        key = model if slash else default_model
        if key not in models:
            models[key] = load_model(key)
            if isinstance(models[key], torch.nn.Module):
                models[key].to(device)
        self.name, self._way, self._settings, self._device = name, way, settings, device
        self._model: Inpainter = models[key]
        self.described = {
            "model": key,
            "weights": _fingerprint(self._model),
            "way": way,
            "settings": _in_force(settings, self._model, way),
        }

    def identity(self, case: Case) -> str:  # noqa: ARG002  others' files differ by case
        """Text of all that decides the result: model and weights, way, settings, device and version."""
        return json.dumps({**self.described, "device": self._device.type, "refiner": __version__})

    def __call__(self, image: Tensor, hole: Tensor, case: Case) -> Filled:  # noqa: ARG002  others look for its file
        """Fill (1,3,H,W) in [0,1] where `hole` (1,1,H,W), bool, says.

        Raises:
            InputError: the hole is empty, or the settings would shrink the picture.
        """
        if not hole.any():
            raise InputError("the mask is black all over: there is nothing to fill and to measure.")
        budget = self._settings.pixel_budget
        if self._way in _FILLED and budget is not None and image.shape[2] * image.shape[3] > budget:
            raise InputError(
                f"{self.name} would shrink the picture to its pixel_budget of {budget}, and the result could not be "
                "compared; use a preset with `pixel_budget: null`."
            )
        image, hole = image.to(self._device), hole.to(self._device)
        start = time.perf_counter()
        losses: tuple[float, ...] = ()
        if self._way in _FILLED:
            result = refine(self._model, image, hole, replace(self._settings, **_FILLED[self._way]))
            filled = result.image
            losses = result.scales[-1].losses
        else:
            plain = replace(self._settings, refine=False)
            small, small_hole = image, hole
            if self._way == "upsampled":
                side = self._settings.min_side or self._model.spec.train_size
                count = scale_count(image.shape[2], image.shape[3], side, self._settings.max_scales)
                small, small_hole = build_pyramid(image, hole, count)[0]
                small = small.clamp(0, 1)  # rounding may leave the range
            filled = refine(self._model, small, small_hole, plain).image
            if filled.shape != image.shape:
                size = (image.shape[2], image.shape[3])
                filled = functional.interpolate(filled, size=size, mode="bicubic", align_corners=False).clamp(0, 1)
                filled = torch.where(hole, filled, image)
        return Filled(filled.cpu(), losses, time.perf_counter() - start)


def _in_force(settings: Settings, model: Inpainter, way: str) -> dict[str, Any]:
    """The settings that a way uses, with the model's own values where a setting leaves them to the model."""
    found = asdict(replace(settings, **_FILLED.get(way, {}))) | {
        "min_side": settings.min_side or model.spec.train_size,
        "lr": settings.lr or model.spec.learning_rate,
        "lr_scale": dict(model.spec.lr_scale),
    }
    found["match_color"] = replace(settings, refine=way in _FILLED and settings.refine).matches_color
    return {name: value for name, value in found.items() if way in _FILLED or name in _USED[way]}


def _fingerprint(model: object) -> str:
    """A digest of a module's weights; that of no bytes where the model is no module."""
    digest = hashlib.sha256()
    if isinstance(model, torch.nn.Module):
        for name, tensor in model.state_dict().items():
            digest.update(
                name.encode() + tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
            )
    return digest.hexdigest()[:12]
