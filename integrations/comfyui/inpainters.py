"""Load Inpainter: a network by the names that `refiner weights list` knows, or from a weights file."""

from __future__ import annotations

import refiner

from . import host
from .node import INPAINTER, Done, Input, Node, Output


def names() -> list[str]:
    """Models by name, then weights files in ComfyUI's folder `models/inpaint`."""
    return [*refiner.model_names(), *host.weights_files()]


def load_inpainter(model: str) -> Done:
    """Load a model on the CPU.

    Args:
        model: one of `names()`.

    Raises:
        ModelError: its weights cannot be had, read or used.
    """
    file = host.weights_files().get(model) if model not in refiner.model_names() else None
    return Done((refiner.load_model(str(file or model)),))


LOAD_INPAINTER = Node(
    id="RefinerLoadInpainter",
    name="Load Inpainter",
    description="A network that fills holes, for Refine Inpaint. big-lama is downloaded once (206 MB).",
    run=load_inpainter,
    inputs=(
        Input(
            "model",
            "COMBO",
            "A model by name, as `refiner weights list` shows them, or a file in models/inpaint.",
            {"default": "lama-small"},
            choices=names,
        ),
    ),
    outputs=(Output("inpainter", INPAINTER, "The network."),),
)
