"""A node, described once: `current.py` and `classic.py` turn it into what ComfyUI's two schemas ask for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CATEGORY = "image/refiner"  # in ComfyUI's menu
# Kinds that only these nodes have.
INPAINTER = "REFINER_INPAINTER"
CUT = "REFINER_CUT"
PHOTO = "REFINER_PHOTO"


@dataclass(frozen=True)
class Input:
    """A socket or a widget.

    Attributes:
        id: the parameter of the node's function.
        kind: IMAGE, MASK, INT, FLOAT, BOOLEAN, STRING, COMBO, or another, of these nodes or of others'.
        tooltip: what it is, in a sentence.
        options: of the widget, by the names that both schemas have: default, min, max, step, multiline,
            control_after_generate.
        choices: of a COMBO; called whenever ComfyUI lists the nodes.
        upload: whether files can be dropped on a COMBO of files.
        optional: whether it may be left unconnected.
    """

    id: str
    kind: str
    tooltip: str
    options: Mapping[str, Any] = field(default_factory=dict)
    choices: Callable[[], list[str]] | None = None
    upload: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Output:
    """An output of a node.

    Attributes:
        id: its name.
        kind: as for an `Input`.
        tooltip: what it is, in a sentence.
    """

    id: str
    kind: str
    tooltip: str


@dataclass(frozen=True)
class Done:
    """What a node's function gives.

    Attributes:
        values: one for each output.
        ui: what the browser is to show, None for nothing.
    """

    values: tuple[Any, ...]
    ui: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Node:
    """A node of ComfyUI.

    Attributes:
        id: unique among all nodes of ComfyUI.
        name: as shown.
        description: what it does, in a sentence or two.
        run: does the work; called with the inputs by name, gives a `Done`.
        inputs: in the order shown.
        outputs: in the order shown.
        validate: checks inputs before anything runs; gives True, or what is wrong. Called with all widgets by name.
        fingerprint: gives text that changes when the inputs' content does; then the node runs again.
        is_end: whether it runs although nothing is connected to its outputs.
    """

    id: str
    name: str
    description: str
    run: Callable[..., Done]
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    validate: Callable[..., bool | str] | None = None
    fingerprint: Callable[..., str] | None = None
    is_end: bool = False
