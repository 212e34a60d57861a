"""Workflows as ComfyUI's browser side saves them, turned into what its server runs."""

from __future__ import annotations

from typing import Any

WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
UNSEEN = ("MarkdownNote", "Note")  # nodes that only the browser knows
AFTER = ("fixed", "increment", "decrement", "randomize")


def is_widget(kind: object) -> bool:
    return isinstance(kind, list) or kind in WIDGETS


def to_prompt(workflow: dict[str, Any], nodes: dict[str, Any]) -> dict[str, Any]:
    """Node ids to classes and inputs.

    Args:
        workflow: with its nodes and links.
        nodes: what the server's `/object_info` says of the node classes.
    """
    sources = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in UNSEEN:
            continue
        known = nodes[node["type"]]["input"]
        declared = {**known.get("required", {}), **known.get("optional", {})}
        values = list(node["widgets_values"])
        inputs: dict[str, Any] = {}
        for name, (kind, *options) in declared.items():
            if is_widget(kind):
                inputs[name] = values.pop(0)
                if options and options[0].get("control_after_generate"):
                    assert values.pop(0) in AFTER, name  # a widget that only the browser knows
        uploads = [given for given in declared.values() if given[1:] and given[1].get("image_upload")]
        assert values == ["image"] * len(uploads), f"{node['type']}: {values} left over"  # each upload button's
        for socket in node["inputs"]:
            assert socket["name"] in declared, socket
            if socket["link"] is not None:
                inputs[socket["name"]] = sources[socket["link"]]
        missing = [name for name in known.get("required", {}) if name not in inputs]
        assert not missing, f"{node['type']}: nothing gives {missing}"
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt
