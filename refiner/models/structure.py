"""What a network is made of besides its weights' values, so that one can tell whether it is still the same."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from copyreg import _slotnames  # type: ignore[attr-defined]
from functools import cache
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from refiner.models.copies import ATOMS

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAPPINGS = frozenset({dict, OrderedDict})
_NEW = "told of here for the first time, or later"
_IN_PYTHON = 1 << 9  # the flag of a class that was made by a `class` statement, or as by one


class Structure:
    """Everything that an object holds, however deep, but for what lies in its tensors.

    Two are equal where their objects hold the same classes, functions and values, in the same order and shared in the
    same places. None of what it is of is kept alive by it, tensors apart.

    Attributes:
        tensors: each once.
    """

    def __init__(self, marks: list[Any], tensors: list[Tensor]) -> None:
        self._marks, self.tensors = marks, tensors

    def without_tensors(self) -> Structure:
        """The same, which keeps no tensor alive."""
        return Structure(self._marks, [])

    def is_that_of(self, other: Structure) -> bool:
        """Whether both are the same."""
        return self._marks == other._marks


def structure_of(model: object) -> Structure | None:  # noqa: C901  one branch for each kind of thing
    """What a network holds; None where something in it cannot be told from another or has its own way to be copied."""
    marks: list[Any] = []
    tensors: list[Tensor] = []
    numbers: dict[int, int] = {}
    waiting: list[Any] = [model]

    def see(values: Iterable[Any]) -> None:
        for value in values:
            kind = type(value)
            if kind in ATOMS:
                marks.extend((kind, value))
            elif kind in _MAPPINGS and not value:  # of which a module has ten
                marks.append(kind)
            else:
                marks.append(_NEW)
                waiting.append(value)

    while waiting:
        here = waiting.pop()
        kind: Any = type(here)
        marks.append(numbers.get(id(here), _NEW))
        if id(here) in numbers:  # told of before
            continue
        numbers[id(here)] = len(numbers)
        if kind in (Tensor, nn.Parameter):
            marks += (kind, here.shape, here.dtype, here.device)
            tensors.append(here)
        elif kind in _MAPPINGS:
            marks += (kind, len(here))
            see(here)
            see(here.values())
        elif kind in (list, tuple):
            marks += (kind, len(here))
            see(here)
        elif kind in (set, frozenset) and all(type(each) in ATOMS for each in here):  # others have no order to go by
            marks += (kind, frozenset(here))
        elif kind is FunctionType and _holds_nothing(here):
            marks.append(weakref.ref(here))
        elif kind is MethodType and isinstance(here.__func__, FunctionType) and _holds_nothing(here.__func__):
            marks.append(weakref.ref(here.__func__))
            see([here.__self__])
        elif isinstance(here, type):
            marks.append(weakref.ref(here))
        elif _is_its_attributes(kind):
            own = vars(here)
            marks.append(weakref.ref(kind))
            marks.append(tuple(own))
            see(own.values())
        else:
            return None
    return Structure(marks, tensors)


def _holds_nothing(function: FunctionType) -> bool:
    """Whether a function refers to nothing but its module and classes; what else it held would be kept alive."""
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    return all(isinstance(held, type) for held in cells) and not (function.__defaults__ or function.__kwdefaults__)


@cache
def _is_its_attributes(kind: type) -> bool:
    """Whether objects of a class are what they have as attributes, and are copied by these."""
    made = (part for part in kind.__mro__ if part is not object)
    if not all(part.__flags__ & _IN_PYTHON for part in made) or hasattr(kind, "__deepcopy__") or _slotnames(kind):
        return False
    names = ("__reduce_ex__", "__reduce__", "__getstate__", "__getnewargs__", "__getnewargs_ex__")
    base = nn.Module if issubclass(kind, nn.Module) else object
    return bool(kind.__dictoffset__) and all(getattr(kind, name, None) is getattr(base, name, None) for name in names)
