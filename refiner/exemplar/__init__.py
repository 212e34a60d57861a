"""Filling a hole with the photo's own pixels: a shift map, without weights and without a network.

Each pixel of the hole copies one known pixel at an offset. The offsets are those at which the photo repeats itself;
which pixel takes which is chosen at a small size, so that few seams show, and carried up to the full size, where the
copies are as sharp as the photo. Seams are then removed in the gradient domain.

Sources: He and Sun, "Statistics of Patch Offsets for Image Completion", ECCV 2012; Pritch, Kav-Venaki and Peleg,
"Shift-Map Image Editing", ICCV 2009; Pérez, Gangnet and Blake, "Poisson Image Editing", SIGGRAPH 2003.
"""

from refiner.exemplar.fill import MENDED, Exemplar, Level, level_count
from refiner.exemplar.likeness import unlikeness
from refiner.exemplar.progress import part

__all__ = ["MENDED", "Exemplar", "Level", "level_count", "part", "unlikeness"]
