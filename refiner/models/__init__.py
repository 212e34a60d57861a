"""What the engine asks of a network, other people's networks behind that interface, and models by name."""

from refiner.models.inpainter import Features, Inpainter
from refiner.models.split import Encoding, SequentialInpainter, SplitInpainter, split_sequential

__all__ = ["Encoding", "Features", "Inpainter", "SequentialInpainter", "SplitInpainter", "split_sequential"]
