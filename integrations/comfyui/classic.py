"""Nodes in ComfyUI's classic schema, for versions without V3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .node import CATEGORY

if TYPE_CHECKING:
    from .node import Input, Node


def class_of(node: Node) -> type:
    """The class that ComfyUI runs for a node."""

    def input_types(_: type) -> dict[str, Any]:
        required = {given.id: _input(given) for given in node.inputs if not given.optional}
        optional = {given.id: _input(given) for given in node.inputs if given.optional}
        return {"required": required, "optional": optional}

    def execute(_: object, /, **inputs: Any) -> Any:
        done = node.run(**inputs)
        return done.values if done.ui is None else {"ui": dict(done.ui), "result": done.values}

    attributes: dict[str, Any] = {
        "INPUT_TYPES": classmethod(input_types),
        "RETURN_TYPES": tuple(output.kind for output in node.outputs),
        "RETURN_NAMES": tuple(output.id for output in node.outputs),
        "OUTPUT_TOOLTIPS": tuple(output.tooltip for output in node.outputs),
        "OUTPUT_NODE": node.is_end,
        "FUNCTION": "execute",
        "CATEGORY": CATEGORY,
        "DESCRIPTION": node.description,
        "execute": execute,
    }
    for name, check in (("VALIDATE_INPUTS", node.validate), ("IS_CHANGED", node.fingerprint)):
        if check is not None:
            attributes[name] = _method(check)
    return type(node.id, (), attributes)


def _method(check: Any) -> Any:
    def call(_: type[Any], /, **inputs: Any) -> Any:
        return check(**inputs)

    return classmethod(call)


def _input(given: Input) -> tuple[Any, dict[str, Any]]:
    options = {**given.options, "tooltip": given.tooltip}
    if given.upload:
        options["image_upload"] = True
    return (given.kind if given.choices is None else given.choices()), options
