"""A model under test, and pictures for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from refiner.models.features import Features, cast_features

_SIDE = 128  # pixels; about the side of test pictures


class Subject:
    """A model and pictures for it."""

    def __init__(self, model: Any) -> None:
        self.model = model
        parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
        self.device = torch.device("cpu") if parameter is None else parameter.device
        self.dtype = torch.float32 if parameter is None else parameter.dtype

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the usual test picture."""
        size: tuple[int, int] = self.model.spec.padded_size(_SIDE, _SIDE)
        return size

    def picture(self, height: int, width: int, count: int = 1) -> tuple[Tensor, Tensor]:
        """Smooth pictures (count,3,H,W) with some detail, always the same, and an elliptic hole (count,1,H,W)."""
        generator = torch.Generator().manual_seed(0)
        coarse, fine = (
            torch.nn.functional.interpolate(
                torch.rand(count, 3, n, n, generator=generator), size=(height, width), mode="bicubic"
            )
            for n in (5, 23)
        )
        y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        hole = ((y / 0.4) ** 2 + (x / 0.5) ** 2 < 1).to(self.dtype).expand(count, 1, height, width)
        image = (0.7 * coarse + 0.3 * fine).clamp(0, 1).to(self.dtype)
        return image.to(self.device), hole.to(self.device)

    def predict(self, image: Tensor, hole: Tensor) -> Tensor:
        """The model's prediction (N,3,H,W)."""
        prediction: Tensor = self.model.rear(self.model.front(image, hole))
        return prediction

    def features(self, image: Tensor, hole: Tensor) -> Features:
        """A copy of the features, whose floating-point leaves require a gradient."""

        def ours(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            copy = leaf.detach().clone()
            return copy.requires_grad_() if copy.is_floating_point() else copy

        return tree_map(ours, cast_features(self.model.front(image, hole), self.dtype))
