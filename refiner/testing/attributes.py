"""Find attributes of a model that look misspelled or misplaced, so that nothing reads them."""

from __future__ import annotations

from dataclasses import fields
from difflib import get_close_matches
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from refiner.models.inpainter import Inpainter
from refiner.models.spec import ModelSpec
from refiner.models.split import SequentialInpainter, SplitInpainter

_CLOSE = 0.8  # from this similarity on, one name is taken for a misspelling of the other
_MEANT = {"min_side": "min_input_side"}


@runtime_checkable
class HasWhole(Protocol):
    """A model whose network can also be run uncut."""

    def whole(self, image: Tensor, mask: Tensor) -> Tensor:
        """The uncut network's prediction: (N,3,H,W) in [0,1]."""
        ...


@runtime_checkable
class HasSequence(Protocol):
    """A model whose network is also there as a sequence of layers."""

    def sequence(self) -> SequentialInpainter:
        """The same network as a sequence that can be cut anywhere."""
        ...


def misplaced_names(model: object) -> list[str]:
    """What looks wrong about a model's attributes, a line each."""
    in_spec = {field.name for field in fields(ModelSpec)}
    read = {"front", "rear", "spec", "whole", "sequence"}
    found = []
    for name in sorted(_own_names(model) - read):
        if name in in_spec or name in _MEANT:
            found.append(f"`{name}` on the model is read by nothing: give it as {_MEANT.get(name, name)} of its spec")
            continue
        close = get_close_matches(name, sorted(read | in_spec), n=1, cutoff=_CLOSE)
        if close:
            found.append(f"`{name}` is read by nothing; is it meant to be `{close[0]}`?")
    return found


def _own_names(model: object) -> set[str]:
    """Public attributes that a model and its classes define, without those of known base classes."""
    bases = {object, nn.Module, SplitInpainter, SequentialInpainter, Inpainter}
    names = set(vars(model)) if hasattr(model, "__dict__") else set()
    for kind in type(model).__mro__:
        if kind not in bases:
            names |= set(vars(kind))
    inherited = {name for base in bases for name in dir(base)}
    return {name for name in names - inherited if not name.startswith("_")}
