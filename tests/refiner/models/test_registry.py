from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from refiner import ModelError
from refiner.models import registry


def entries(monkeypatch, **values: str) -> None:
    found = [EntryPoint(name, value, registry.INPAINTERS) for name, value in values.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: found)


def test_the_best_model_here_is_the_default_and_a_broken_plug_in_does_not_matter(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("REFINER_CACHE", str(tmp_path))
    known = {"small": "lama.weights:LAMA_SMALL", "big": "lama.weights:BIG_LAMA", "broken": "nowhere.at_all:Model"}
    entries(monkeypatch, **known)
    assert registry.best_model() == "small"
    (tmp_path / "big-lama.safetensors").touch()
    assert registry.best_model() == "big"
    entries(monkeypatch, broken="nowhere.at_all:Model")
    with pytest.raises(ModelError, match="none is installed that could be used without a name"):
        registry.best_model()
