"""What the engine needs of a network, other people's networks behind that interface, and models by name."""

from refiner.models.features import Features
from refiner.models.inpainter import Inpainter
from refiner.models.spec import ModelSpec
from refiner.models.split import Encoding, SequentialInpainter, SplitInpainter, split_sequential

__all__ = [
    "Encoding",
    "Features",
    "Inpainter",
    "ModelSpec",
    "SequentialInpainter",
    "SplitInpainter",
    "split_sequential",
]
