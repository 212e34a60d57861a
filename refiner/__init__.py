"""Refine what an inpainting network makes of a high-resolution photo (arXiv 2206.13644).

The engine knows no network: models are found by name through the entry-point group `refiner.inpainters`.
Names are imported when first used, so that `refiner --help` need not wait for PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refiner.engine.optimize import StopRefinement
    from refiner.engine.plan import Plan
    from refiner.engine.refine import refine
    from refiner.engine.result import Progress, Result, ScaleResult
    from refiner.errors import BudgetError, InputError, ModelError, RefinerError, SettingsError
    from refiner.models.inpainter import Features, Inpainter
    from refiner.models.registry import load_model, model_names
    from refiner.photo import inpaint
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
    "engine.plan": ("Plan",),
    "errors": ("BudgetError", "InputError", "ModelError", "RefinerError", "SettingsError"),
    "models.inpainter": ("Features", "Inpainter"),
    "engine.refine": ("refine",),
    "engine.optimize": ("StopRefinement",),
    "photo": ("inpaint",),
    "models.registry": ("load_model", "model_names"),
    "engine.result": ("Progress", "Result", "ScaleResult"),
    "settings": ("Settings", "load_preset", "preset_names"),
}


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
