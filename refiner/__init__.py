"""Refine what an inpainting network makes of a high-resolution photo (arXiv 2206.13644).

The engine knows no network: models are found by name through the entry-point group `refiner.inpainters`.
Names are imported when first used, so that `refiner --help` need not wait for PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refiner.engine.objective import Objective, ObjectiveFactory, Target, paper_objective
    from refiner.engine.optimize import StopRefinement
    from refiner.engine.plan import Plan, make_plan
    from refiner.engine.refine import refine
    from refiner.engine.result import Progress, Result, ScaleResult, WindowResult
    from refiner.errors import BudgetError, InputError, ModelError, RefinerError, SettingsError
    from refiner.images.masks import MaskOptions
    from refiner.images.picture import Picture
    from refiner.models.features import Features
    from refiner.models.inpainter import Inpainter
    from refiner.models.registry import load_model, model_names
    from refiner.models.spec import ModelSpec
    from refiner.models.split import Encoding, SplitInpainter, split_sequential
    from refiner.photo import PhotoResult, inpaint
    from refiner.regions import HoleBoxes
    from refiner.settings import Settings, load_preset, preset_names

__version__ = "0.1.0"

__all__ = [
    "BudgetError",
    "Encoding",
    "Features",
    "HoleBoxes",
    "Inpainter",
    "InputError",
    "MaskOptions",
    "ModelError",
    "ModelSpec",
    "Objective",
    "ObjectiveFactory",
    "PhotoResult",
    "Picture",
    "Plan",
    "Progress",
    "RefinerError",
    "Result",
    "ScaleResult",
    "Settings",
    "SettingsError",
    "SplitInpainter",
    "StopRefinement",
    "Target",
    "WindowResult",
    "inpaint",
    "load_model",
    "load_preset",
    "make_plan",
    "model_names",
    "paper_objective",
    "preset_names",
    "refine",
    "split_sequential",
]

_HOMES = {
    "engine.objective": ("Objective", "ObjectiveFactory", "Target", "paper_objective"),
    "engine.optimize": ("StopRefinement",),
    "engine.plan": ("Plan", "make_plan"),
    "engine.refine": ("refine",),
    "engine.result": ("Progress", "Result", "ScaleResult", "WindowResult"),
    "errors": ("BudgetError", "InputError", "ModelError", "RefinerError", "SettingsError"),
    "images.masks": ("MaskOptions",),
    "images.picture": ("Picture",),
    "models.features": ("Features",),
    "models.inpainter": ("Inpainter",),
    "models.registry": ("load_model", "model_names"),
    "models.spec": ("ModelSpec",),
    "models.split": ("Encoding", "SplitInpainter", "split_sequential"),
    "photo": ("PhotoResult", "inpaint"),
    "regions": ("HoleBoxes",),
    "settings": ("Settings", "load_preset", "preset_names"),
}


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
