"""LaMa (arXiv 2109.07161): the network as front and rear, its checkpoints and its named weights."""

from lama.adapter import LamaInpainter
from lama.checkpoint import load_generator
from lama.generator import Generator, GeneratorConfig

__all__ = ["Generator", "GeneratorConfig", "LamaInpainter", "load_generator"]
