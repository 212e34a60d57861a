"""The description of the API, as OpenAPI 3.1; the page `/api` shows it to people."""

from __future__ import annotations

from typing import Any

from refiner import __version__

_MARKS: dict[str, Any] = {
    "type": "array",
    "description": "What was drawn, in order. Points are x, y, x, y and so on, in pixels from the upper left corner.",
    "items": {
        "oneOf": [
            {
                "properties": {
                    "kind": {"const": "stroke"},
                    "points": {"type": "array", "items": {"type": "number"}},
                    "size": {"type": "number", "description": "The brush's diameter in pixels."},
                    "erase": {"type": "boolean"},
                },
                "required": ["kind", "points", "size"],
            },
            {
                "properties": {
                    "kind": {"const": "area"},
                    "points": {"type": "array", "items": {"type": "number"}},
                    "erase": {"type": "boolean"},
                },
                "required": ["kind", "points"],
            },
            {
                "properties": {"kind": {"const": "mask"}, "id": {"type": "string"}, "erase": {"type": "boolean"}},
                "required": ["kind", "id"],
            },
        ]
    },
}
_REMOVAL: dict[str, Any] = {
    "type": "object",
    "required": ["marks"],
    "properties": {
        "round": {"type": "integer", "description": "To start from; the last one where it is left out."},
        "marks": _MARKS,
        "grow": {"type": "integer", "description": "Pixels the mask grows by."},
        "feather": {"type": "integer", "description": "Pixels to blend over inside its rim."},
        "model": {"type": "string", "description": "One of those in /api/config."},
        "preset": {"type": "string", "description": "One of those in /api/config."},
        "device": {"type": "string", "description": "One of those in /api/config."},
        "settings": {"type": "object", "description": "By the names in /api/config, over the preset's."},
    },
}
_DRAWN: dict[str, Any] = {"type": "object", "required": ["marks"], "properties": {"marks": _MARKS}}
_CLICKS: dict[str, Any] = {
    "type": "object",
    "required": ["clicks"],
    "properties": {
        "clicks": {
            "type": "array",
            "items": {
                "properties": {
                    "x": {"type": "number"},
                    "y": {"type": "number"},
                    "plus": {"type": "boolean", "description": "Whether the object is there; false to take away."},
                },
                "required": ["x", "y"],
            },
        }
    },
}
_IOPAINT: dict[str, Any] = {
    "type": "object",
    "required": ["image", "mask"],
    "properties": {
        "image": {"type": "string", "description": "An image file in base64, or a data URL."},
        "mask": {"type": "string", "description": "The same; white is what to remove. Of the image's size."},
    },
}
_FILE = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}

# Method, path, summary, request body (a JSON schema or "file"), media type of the answer.
_OPERATIONS: tuple[tuple[str, str, str, Any, str], ...] = (
    ("get", "/healthz", "That the server answers.", None, "application/json"),
    ("get", "/api/config", "Limits, models, presets, devices and settings.", None, "application/json"),
    ("get", "/api/openapi.json", "This description.", None, "application/json"),
    ("get", "/api/photos", "Your photos.", None, "application/json"),
    ("post", "/api/photos", "Upload a photo: its bytes as the body, its name as ?name=.", "file", "application/json"),
    ("get", "/api/examples/{name}", "An example, small.", None, "image/jpeg"),
    ("post", "/api/examples/{name}", "Open an example from /api/config.", None, "application/json"),
    ("get", "/api/photos/{photo}", "A photo, its rounds and its jobs.", None, "application/json"),
    ("delete", "/api/photos/{photo}", "Forget a photo.", None, ""),
    ("get", "/api/photos/{photo}/formats", "Formats to download, and what each loses.", None, "application/json"),
    (
        "post",
        "/api/photos/{photo}/masks",
        "Keep a mask: marks, or an image file; ?fit stretches it.",
        _DRAWN,
        "application/json",
    ),
    ("get", "/api/photos/{photo}/masks/{mask}", "A mask: white is hole; ?overlay as a small alpha.", None, "image/png"),
    ("post", "/api/photos/{photo}/snap", "A mask of the object under a scribble.", _DRAWN, "application/json"),
    ("post", "/api/photos/{photo}/select", "A mask of the object under clicks.", _CLICKS, "application/json"),
    ("post", "/api/photos/{photo}/shadow", "A mask of what is marked with its shadow.", _DRAWN, "application/json"),
    ("post", "/api/photos/{photo}/plan", "Window, memory and seconds, without the work.", _REMOVAL, "application/json"),
    ("post", "/api/photos/{photo}/jobs", "Remove; gives a job.", _REMOVAL, "application/json"),
    ("delete", "/api/photos/{photo}/rounds/{number}", "Take a round out of the history.", None, "application/json"),
    (
        "post",
        "/api/photos/{photo}/rounds/{number}/another",
        "Another fill of the same hole, up to four; gives a job.",
        None,
        "application/json",
    ),
    ("get", "/api/photos/{photo}/rounds/{number}/around", "What it changed and what surrounds it.", None, "image/jpeg"),
    ("get", "/api/photos/{photo}/rounds/{number}/preview", "A round, up to 2048 pixels.", None, "image/jpeg"),
    ("get", "/api/photos/{photo}/rounds/{number}/thumbnail", "A round, small.", None, "image/jpeg"),
    (
        "get",
        "/api/photos/{photo}/rounds/{number}/tiles/{column}/{row}",
        "A square of 512 pixels at 1:1.",
        None,
        "image/jpeg",
    ),
    (
        "get",
        "/api/photos/{photo}/rounds/{number}/file",
        "A round in the photo's format and depth, or as ?suffix=.png.",
        None,
        "application/octet-stream",
    ),
    ("get", "/api/jobs/{job}", "How far a job is.", None, "application/json"),
    ("get", "/api/jobs/{job}/events", "The same as server-sent events, until it is over.", None, "text/event-stream"),
    ("get", "/api/jobs/{job}/pictures/{number}", "The hole at one scale of a running job.", None, "image/png"),
    ("post", "/api/jobs/{job}/stop", "End with the best so far.", None, "application/json"),
    ("post", "/api/jobs/{job}/cancel", "End without a result.", None, "application/json"),
    ("post", "/api/v1/inpaint", "As clients of IOPaint call it; the image comes back.", _IOPAINT, "image/png"),
)


def description() -> dict[str, Any]:
    """The description as an OpenAPI document."""
    paths: dict[str, dict[str, Any]] = {}
    for method, path, summary, body, gives in _OPERATIONS:
        paths.setdefault(path, {})[method] = _operation(path, summary, body, gives)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "refiner web",
            "version": __version__,
            "description": "A cookie tells visitors apart; keep it between requests, as curl does with -c and -b.",
        },
        "paths": paths,
        "components": {"schemas": {"Problem": {"type": "object", "properties": {"error": {"type": "string"}}}}},
    }


def _operation(path: str, summary: str, body: Any, gives: str) -> dict[str, Any]:
    names = [part.strip("{}") for part in path.split("/") if part.startswith("{")]
    problem = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    good = {"description": "Done.", **({"content": {gives: {}}} if gives else {})}
    operation: dict[str, Any] = {
        "summary": summary,
        "parameters": [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names],
        "responses": {"2XX": good, "4XX": {"description": "What is wrong, in one line.", "content": problem}},
    }
    if body is not None:
        operation["requestBody"] = (
            _FILE if body == "file" else {"required": True, "content": {"application/json": {"schema": body}}}
        )
    return operation
