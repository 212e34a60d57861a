"""Nodes in ComfyUI's current schema, V3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import ComfyExtension, io

from .node import CATEGORY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .node import Input, Node

_KINDS = {
    "IMAGE": io.Image,
    "MASK": io.Mask,
    "INT": io.Int,
    "FLOAT": io.Float,
    "BOOLEAN": io.Boolean,
    "STRING": io.String,
    "COMBO": io.Combo,
}


def extension(nodes: Sequence[Node]) -> ComfyExtension:
    """The extension that ComfyUI's loader takes."""

    class Nodes(ComfyExtension):
        async def get_node_list(self) -> list[type[io.ComfyNode]]:
            return [class_of(node) for node in nodes]

    return Nodes()


def class_of(node: Node) -> type[io.ComfyNode]:
    """The class that ComfyUI runs for a node."""

    def define_schema(_: type) -> io.Schema:
        return io.Schema(
            node_id=node.id,
            display_name=node.name,
            category=CATEGORY,
            description=node.description,
            inputs=[_input(given) for given in node.inputs],
            outputs=[
                _kind(out.kind).Output(id=out.id, display_name=out.id, tooltip=out.tooltip) for out in node.outputs
            ],
            is_output_node=node.is_end,
        )

    def execute(_: type[Any], /, **inputs: Any) -> io.NodeOutput:
        done = node.run(**inputs)
        return io.NodeOutput(*done.values, ui=None if done.ui is None else dict(done.ui))

    methods: dict[str, Any] = {"define_schema": classmethod(define_schema), "execute": classmethod(execute)}
    for name, check in (("validate_inputs", node.validate), ("fingerprint_inputs", node.fingerprint)):
        if check is not None:
            methods[name] = _method(check)
    return type(node.id, (io.ComfyNode,), methods)


def _method(check: Any) -> Any:
    def call(_: type[Any], /, **inputs: Any) -> Any:
        return check(**inputs)

    return classmethod(call)


def _kind(name: str) -> Any:
    return _KINDS.get(name) or io.Custom(name)


def _input(given: Input) -> Any:
    options: dict[str, Any] = {**given.options, "tooltip": given.tooltip, "optional": given.optional}
    if given.choices is not None:
        options["options"] = given.choices()
    if given.upload:
        options["upload"] = io.UploadType.image
    return _kind(given.kind).Input(given.id, **options)
