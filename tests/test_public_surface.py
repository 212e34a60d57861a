"""The public names and their signatures, pinned: a change here is a change for users, and belongs into CHANGELOG.md."""

from __future__ import annotations

import dataclasses
import inspect
from types import ModuleType
from typing import Any

import pytest

import refiner
import refiner.frozen
import refiner.models
import refiner.testing

SURFACE = {
    refiner: {
        "BudgetError": "error: RefinerError",
        "Encoding": "fields: planes low high fill",
        "Features": "type",
        "HoleBoxes": "fields: size pixels boxes",
        "Inpainter": "protocol: front rear spec",
        "InputError": "error: RefinerError",
        "MaskOptions": "fields: threshold invert dilate feather resize from_alpha",
        "ModelError": "error: RefinerError",
        "ModelSpec": ("fields: multiple train_size min_input_side learning_rate lr_scale strips stages detail"),
        "Objective": "fields: image known coarse inside size coarse_weight",
        "ObjectiveFactory": "type",
        "PhotoResult": "fields: photo picture refinement model settings",
        "Picture": "fields: color alpha name format metadata turned stored_depth scaled_from pages",
        "Plan": (
            "fields: sizes levels start detail scale_windows copy_windows strip_height conv_dtype tf32 bytes budget "
            "attempt mostly_hole"
        ),
        "Progress": "fields: scale scales size step steps loss window windows scale_done seconds_left image images",
        "RefinerError": "error: Exception",
        "Result": "fields: image scales shrunk_from stopped plan warnings",
        "ScaleResult": "fields: size composite windows seconds shares",
        "Settings": (
            "fields: refine start detail min_side max_scales steps lr keep back_projection pixel_budget windows "
            "precision memory match_color blend_rim grain seed"
        ),
        "SettingsError": "error: RefinerError",
        "SplitInpainter": "class(encoding=None, **spec): front front_half rear rear_half",
        "StopRefinement": "error: Exception",
        "Target": "fields: image hole coarse size",
        "WindowResult": "fields: window losses kept corrected image",
        "inpaint": (
            "(image, mask=None, model=None, *, settings='default', mask_options=None, device='auto', progress=None, "
            "on_scale=None, guide=None, avoid=None, page=None)"
        ),
        "load_model": "(name, *, weights=None)",
        "load_preset": "(name_or_path)",
        "make_plan": (
            "(hole, model, settings, *, guide=False, device=None, dtype=torch.float32, budget=None, devices=(), "
            "objective=paper_objective, attempt=0)"
        ),
        "model_names": "()",
        "paper_objective": "(target, *, erosion=15, coarse_weight=1.0)",
        "preset_names": "()",
        "refine": (
            "(model, image, mask, settings=None, progress=None, on_plan=None, *, on_scale=None, "
            "objective=paper_objective, guide=None, avoid=None)"
        ),
        "split_sequential": "(network, at, **options)",
    },
    refiner.models: {
        "Encoding": "fields: planes low high fill",
        "Features": "type",
        "Inpainter": "protocol: front rear spec",
        "ModelSpec": ("fields: multiple train_size min_input_side learning_rate lr_scale strips stages detail"),
        "SequentialInpainter": "class(network, at, **options): front_half moved_to rear_half whole",
        "SplitInpainter": "class(encoding=None, **spec): front front_half rear rear_half",
        "split_sequential": "(network, at, **options)",
    },
    refiner.testing: {
        "Cut": "fields: at depth shape values saved_bytes seconds loss_before loss_after",
        "Finding": "fields: name status message",
        "Report": "fields: findings",
        "check": "(model)",
        "scan": "(model, *, steps=15)",
    },
    refiner.frozen: {
        "FrozenGradients": "class(conv_dtype=None, survey=None)",
        "Survey": "class()",
        "current_strip_height": "()",
        "in_strips": "(run, x, *, rows, halo, scale)",
        "inverse_rfft2": "(spectrum, size, norm=None)",
        "relu_of_sum_": "(x, other)",
        "saved_bytes": "(run)",
        "stacked_irfft2": "(stacked, width)",
        "stacked_rfft2": "(x)",
        "strip_height": "(rows)",
    },
}
EMPTY = inspect.Signature.empty
HANDLERS = {"FrozenGradients", "Survey"}  # whose methods are called by PyTorch, not by users


def signature(function: Any, *, skip: int = 0) -> str:
    plain = inspect.signature(function)
    parameters = list(plain.parameters.values())[skip:]
    shown = str(plain.replace(parameters=[p.replace(annotation=p.empty) for p in parameters], return_annotation=EMPTY))
    return shown.replace(f"{refiner.paper_objective!r}", "paper_objective")


def public(members: Any) -> str:
    return " ".join(sorted(name for name in members if not name.startswith("_")))


def describe(name: str, thing: Any) -> str:
    if isinstance(thing, type) and issubclass(thing, BaseException):
        return f"error: {thing.__mro__[1].__name__}"
    if dataclasses.is_dataclass(thing):
        return "fields: " + " ".join(field.name for field in dataclasses.fields(thing))
    if getattr(thing, "_is_protocol", False):
        return f"protocol: {public(vars(thing))}"
    if inspect.isclass(thing) and thing.__module__.startswith("refiner"):
        members = "" if name in HANDLERS else f": {public(vars(thing))}"
        return f"class{signature(thing.__init__, skip=1)}{members}"
    if inspect.isfunction(thing):
        return signature(thing)
    return "type"


@pytest.mark.parametrize("module", SURFACE, ids=lambda module: module.__name__)
def test_names_and_signatures(module: ModuleType) -> None:
    assert {name: describe(name, getattr(module, name)) for name in module.__all__} == SURFACE[module]
    assert list(module.__all__) == sorted(module.__all__, key=lambda name: (name[0].islower(), name))


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = refiner.nonsense
