"""Refine what an inpainting network makes of a high-resolution photo (arXiv 2206.13644).

The engine knows no network: models are found by name through the entry-point group `refiner.inpainters`.
Names are imported when first used, so that `refiner --help` need not wait for PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refiner.budget import Plan
    from refiner.errors import BudgetError, InputError, ModelError, RefinerError, SettingsError
    from refiner.inpainter import Features, Inpainter
    from refiner.multiscale import refine
    from refiner.optimize import StopRefinement
    from refiner.photo import inpaint
    from refiner.registry import load_model, model_names
    from refiner.result import Progress, Result, ScaleResult
    from refiner.settings import Settings, load_preset, preset_names

__version__ = "0.1.0"

__all__ = [
    "BudgetError",
    "Features",
    "Inpainter",
    "InputError",
    "ModelError",
    "Plan",
    "Progress",
    "RefinerError",
    "Result",
    "ScaleResult",
    "Settings",
    "SettingsError",
    "StopRefinement",
    "inpaint",
    "load_model",
    "load_preset",
    "model_names",
    "preset_names",
    "refine",
]

_HOMES = {
    "budget": ("Plan",),
    "errors": ("BudgetError", "InputError", "ModelError", "RefinerError", "SettingsError"),
    "inpainter": ("Features", "Inpainter"),
    "multiscale": ("refine",),
    "optimize": ("StopRefinement",),
    "photo": ("inpaint",),
    "registry": ("load_model", "model_names"),
    "result": ("Progress", "Result", "ScaleResult"),
    "settings": ("Settings", "load_preset", "preset_names"),
}


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
