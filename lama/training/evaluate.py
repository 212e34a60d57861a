"""Measure how good a generator is on held-out crops, beside fills that need no training."""

from __future__ import annotations

import csv
import importlib.util
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from refiner.evaluation.metrics import hole_l1, hole_ssim, texture_distance

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_BATCH = 8
_TELEA_RADIUS = 3
SHEET_ROWS = 8


def fill(generator: nn.Module, pictures: Tensor, holes: Tensor) -> Tensor:
    """The pictures with their holes filled: (N,3,H,W), computed in float32 a few at a time, in eval mode."""
    device = next(generator.parameters()).device
    was_training = generator.training
    generator.eval()
    filled = []
    with torch.no_grad():
        for picture, hole in zip(torch.split(pictures, _BATCH), torch.split(holes, _BATCH), strict=True):
            known = picture.to(device), hole.to(device)
            prediction = generator(torch.cat([known[0] * (1 - known[1]), known[1]], dim=1)).cpu()
            filled.append(torch.where(hole > 0, prediction, picture))
    generator.train(was_training)
    return torch.cat(filled)


def score(filled: Tensor, pictures: Tensor, holes: Tensor) -> dict[str, float]:
    """Means over the crops: L1 and SSIM in the hole, and texture distance, over all but the last level and at each."""
    hole = holes > 0
    texture = texture_distance(filled, pictures, hole).mean(dim=0)
    return {
        "l1": hole_l1(filled, pictures, hole).mean().item(),
        "ssim": hole_ssim(filled, pictures, hole).mean().item(),
        "texture": texture[:-1].mean().item(),
        **{f"texture_{level}": value.item() for level, value in enumerate(texture)},
    }


def baselines(pictures: Tensor, holes: Tensor) -> dict[str, Tensor]:
    """Fills that need no training: the mean of the known pixels, and OpenCV's Telea where OpenCV is installed."""
    known = 1 - holes
    mean = (pictures * known).sum(dim=(2, 3), keepdim=True) / known.sum(dim=(2, 3), keepdim=True)
    fills = {"mean": torch.where(holes > 0, mean, pictures)}
    if importlib.util.find_spec("cv2") is not None:
        import cv2  # noqa: PLC0415  not needed to train

        rows = []
        for picture, hole in zip(_to_bytes(pictures), holes, strict=True):
            damaged = np.ascontiguousarray(picture[..., ::-1])
            filled = cv2.inpaint(damaged, hole[0].byte().numpy(), _TELEA_RADIUS, cv2.INPAINT_TELEA)
            rows.append(torch.from_numpy(filled[..., ::-1].copy()).permute(2, 0, 1).float() / 255)
        fills["telea"] = torch.where(holes > 0, torch.stack(rows), pictures)
    return fills


def write_sheet(path: Path, columns: Sequence[Tensor]) -> None:
    """Write a PNG with the given pictures side by side, a row for each of the first crops."""
    rows = torch.cat([torch.cat(list(column[:SHEET_ROWS]), dim=1) for column in columns], dim=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(_to_bytes(rows.unsqueeze(0))[0]).save(path)


class CsvLog:
    """A table on disk that grows by a row at a time; rows later than `keep_to_step` are dropped at a restart."""

    def __init__(self, path: Path, columns: Sequence[str], *, keep_to_step: int) -> None:
        self._path, self._columns = path, list(columns)
        kept: list[dict[str, str]] = []
        if path.is_file() and keep_to_step > 0:
            with path.open(newline="", encoding="utf-8") as file:
                kept = [row for row in csv.DictReader(file) if row["step"] and int(row["step"]) <= keep_to_step]
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns, extrasaction="ignore", restval="")
            writer.writeheader()
            writer.writerows(kept)

    def add(self, **values: float | str) -> None:
        """Write a row; columns that are not given stay empty."""
        cells = {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in values.items()}
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns, restval="").writerow(cells)


def _to_bytes(pictures: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = (
        (pictures.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    )
    return array
