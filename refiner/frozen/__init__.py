"""Exact gradients through a frozen network, at a fraction of the memory.

Refinement optimizes features and never weights. The layers of an inpainting network are then linear up to their
activations, so their gradient needs no activation at all: a convolution's needs its weight, a padding's its sizes,
a ReLU's one bit for each element. PyTorch keeps whole inputs for these (pytorch/pytorch issue 133566).
"""

from refiner.frozen.functions import relu_of_sum_, stacked_irfft2, stacked_rfft2
from refiner.frozen.mode import FrozenGradients, Survey, saved_bytes
from refiner.frozen.spectra import inverse_rfft2
from refiner.frozen.strips import current_strip_height, in_strips, strip_height

__all__ = [
    "FrozenGradients",
    "Survey",
    "current_strip_height",
    "in_strips",
    "inverse_rfft2",
    "relu_of_sum_",
    "saved_bytes",
    "stacked_irfft2",
    "stacked_rfft2",
    "strip_height",
]
