"""The ComfyUI nodes, loaded into a small ComfyUI."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from comfyui_stand_in import Comfy

PACKAGE = Path(__file__).parents[2] / "integrations" / "comfyui"


@pytest.fixture
def comfy(tmp_path, monkeypatch) -> Comfy:
    """A ComfyUI without the current schema."""
    stand_in = Comfy(tmp_path)
    for name, module in stand_in.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "comfy_api", None)
    return stand_in


@pytest.fixture
def load_nodes(comfy, monkeypatch):
    """Loads the package as ComfyUI does, from its folder."""

    def load() -> ModuleType:
        for name in [name for name in sys.modules if name.startswith("refiner_comfyui")]:
            monkeypatch.delitem(sys.modules, name)
        spec = importlib.util.spec_from_file_location("refiner_comfyui", PACKAGE / "__init__.py")
        package = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "refiner_comfyui", package)
        spec.loader.exec_module(package)
        return package

    yield load
    for name in [name for name in sys.modules if name.startswith("refiner_comfyui")]:
        del sys.modules[name]
