"""The interface of compared methods, and those not ours: the photo, OpenCV's Telea, PatchMatch, files of others."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch.nn import functional

from refiner.errors import InputError
from refiner.images.pairs import image_files
from refiner.images.reading import read_picture

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from benchmarks.quality.cases import Case

_TELEA_RADIUS = 3  # pixels
_PATCH = 7  # of PatchMatch, in pixels
_LONGEST = 1024  # side in pixels of a picture that PatchMatch is given; a larger one is shrunk, and the fill enlarged


@dataclass(frozen=True)
class Filled:
    """What a method made of a picture.

    Attributes:
        image: (1,3,H,W), the photo with its hole filled.
        losses: the loss curve of the full size; empty where nothing was refined.
        seconds: how long it took.
    """

    image: Tensor
    losses: tuple[float, ...]
    seconds: float


class Method(Protocol):
    """A way to fill holes.

    Attributes:
        name: as the user wrote it.
        described: the method in plain values, for the report; has the key `way`.
    """

    name: str
    described: dict[str, Any]

    def identity(self, case: Case) -> str:
        """Text of all that decides the result, besides the photo and its mask."""

    def __call__(self, image: Tensor, hole: Tensor, case: Case) -> Filled:
        """Fill (1,3,H,W) in [0,1] where `hole` (1,1,H,W), bool, says.

        Raises:
            InputError: the method cannot fill this picture.
        """


class Photo:
    """The photo itself: shows what the measures without a reference give for a picture that was not filled."""

    name = "photo"
    described: dict[str, Any] = {"way": "photo"}  # noqa: RUF012  the protocol's type

    def identity(self, case: Case) -> str:  # noqa: ARG002  the same for all
        """The name, as nothing else decides the result."""
        return self.name

    def __call__(self, image: Tensor, hole: Tensor, case: Case) -> Filled:  # noqa: ARG002  nothing is filled
        """The photo."""
        return Filled(image, (), 0.0)


class Telea:
    """OpenCV's fill from the rim inwards: Telea, "An Image Inpainting Technique Based on the Fast Marching Method".

    Raises:
        InputError: OpenCV is not installed.
    """

    name = "telea"

    def __init__(self) -> None:
        if importlib.util.find_spec("cv2") is None:
            raise InputError("method telea: needs OpenCV; pip install opencv-python-headless.")
        self.described: dict[str, Any] = {"way": "telea", "radius": _TELEA_RADIUS}

    def identity(self, case: Case) -> str:  # noqa: ARG002  the same for all
        """OpenCV's version and the radius."""
        import cv2  # noqa: PLC0415  an extra

        return json.dumps({**self.described, "opencv": cv2.__version__})

    def __call__(self, image: Tensor, hole: Tensor, case: Case) -> Filled:  # noqa: ARG002  knows all it needs
        """Fill by Telea's method, in 8 bits."""
        import cv2  # noqa: PLC0415  an extra

        start = time.perf_counter()
        pixels = (image[0].permute(1, 2, 0) * 255).round().byte().numpy()
        damaged = np.ascontiguousarray(pixels[..., ::-1])
        filled = cv2.inpaint(damaged, hole[0, 0].byte().numpy(), _TELEA_RADIUS, cv2.INPAINT_TELEA)
        found = torch.from_numpy(filled[..., ::-1].copy()).permute(2, 0, 1)[None].to(image) / 255
        return Filled(torch.where(hole, found, image), (), time.perf_counter() - start)


class PatchMatch:
    """The package pypatchmatch: search and vote over patches from coarse to fine, on one core.

    Source: Barnes et al., "PatchMatch: A Randomized Correspondence Algorithm for Structural Image Editing".

    Raises:
        InputError: the package is not installed.
    """

    name = "patchmatch"

    def __init__(self) -> None:
        if importlib.util.find_spec("patchmatch") is None:
            raise InputError("method patchmatch: needs the package; pip install pypatchmatch.")
        self.described: dict[str, Any] = {"way": "patchmatch", "patch": _PATCH, "longest side": _LONGEST}

    def identity(self, case: Case) -> str:  # noqa: ARG002  the same for all
        """The package's version, the patch and the size."""
        return json.dumps({**self.described, "pypatchmatch": version("pypatchmatch")})

    def __call__(self, image: Tensor, hole: Tensor, case: Case) -> Filled:  # noqa: ARG002  knows all it needs
        """Fill in 8 bits, at a size of at most 1024 pixels."""
        from patchmatch import patch_match  # noqa: PLC0415  no dependency of ours

        start = time.perf_counter()
        size = image.shape[2], image.shape[3]
        small, small_hole = image, hole.to(image)
        if max(size) > _LONGEST:
            height, width = (max(round(side * _LONGEST / max(size)), 1) for side in size)
            small = functional.interpolate(image, (height, width), mode="bicubic", antialias=True).clamp(0, 1)
            small_hole = functional.adaptive_max_pool2d(small_hole, (height, width))
        pixels, marks = ((x[0].permute(1, 2, 0) * 255).round().byte().numpy() for x in (small, small_hole))
        filled = patch_match.inpaint(np.ascontiguousarray(pixels), np.ascontiguousarray(marks), patch_size=_PATCH)
        found = torch.from_numpy(np.asarray(filled)).permute(2, 0, 1)[None].to(image) / 255
        if found.shape != image.shape:
            found = functional.interpolate(found, size, mode="bicubic", align_corners=False).clamp(0, 1)
        return Filled(torch.where(hole, found, image), (), time.perf_counter() - start)


class Given:
    """Fills that another tool made, as files: `FOLDER/KIND/NAME.png` or any other suffix, NAME that of the mask.

    Args:
        name: of the method.
        folder: has a folder for each kind of hole, named as that of the pairs; or the files, where pairs have no kinds.

    Raises:
        InputError: there is no such folder.
    """

    def __init__(self, name: str, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError(f"method {name}={folder}: expected a folder of filled pictures; check the path.")
        self.name, self._folder = name, folder
        self.described: dict[str, Any] = {"way": "given"}

    def identity(self, case: Case) -> str:
        """The file's content."""
        return hashlib.sha256(self._file(case).read_bytes()).hexdigest()

    def __call__(self, image: Tensor, hole: Tensor, case: Case) -> Filled:
        """The file's pixels in the hole.

        Raises:
            InputError: there is no such file, or it has another size than the photo.
        """
        path = self._file(case)
        found = read_picture(path).rgb()
        if found.shape != image.shape:
            sizes = ["x".join(str(side) for side in (each.shape[3], each.shape[2])) for each in (image, found)]
            raise InputError(f"{path}: expected {sizes[0]} pixels as the photo has, got {sizes[1]}.")
        return Filled(torch.where(hole, found.to(image), image), (), 0.0)

    def _file(self, case: Case) -> Path:
        for folder in (self._folder / case.kind, self._folder):
            if folder.is_dir():
                for path in image_files(folder)[0]:
                    if path.stem == case.pair.output:
                        return path
        raise InputError(f"{self._folder}: has no {case.kind}/{case.pair.output}.png, which method {self.name} needs.")
