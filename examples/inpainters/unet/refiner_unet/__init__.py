"""A small U-Net as GAN inpainting uses them, behind refiner's split interface.

Source of the shape: "Context Encoders", arXiv 1604.07379, with the skip connections of pix2pix, arXiv 1611.07004.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from refiner.models.split import Encoding, SplitInpainter

_WIDTHS = (24, 48, 96, 128)  # channels at 1/2, 1/4, 1/8 and 1/16 of the side


class UNet(nn.Module):
    """Picture and mask (N,4,H,W) to a picture (N,3,H,W) in [-1,1]."""

    def __init__(self) -> None:
        super().__init__()
        inputs = (4, *_WIDTHS)
        self.down = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(c_in, c_out, 4, stride=2, padding=1), nn.BatchNorm2d(c_out), nn.LeakyReLU(0.2, inplace=True)
            )
            for c_in, c_out in zip(inputs[:-1], _WIDTHS, strict=True)
        )
        self.middle = nn.Sequential(
            nn.Conv2d(_WIDTHS[-1], _WIDTHS[-1], 3, padding=2, dilation=2),
            nn.BatchNorm2d(_WIDTHS[-1]),
            nn.ReLU(inplace=True),
        )
        below = (_WIDTHS[-1], *_WIDTHS[-2::-1])  # what comes up from below: 128, 96, 48, 24
        beside = (*_WIDTHS[-2::-1], 0)  # what comes over: 96, 48, 24, nothing at full size
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(b + s, max(s, 16), 3, padding=1), nn.BatchNorm2d(max(s, 16)), nn.ReLU(inplace=True))
            for b, s in zip(below, beside, strict=True)
        )
        self.head = nn.Sequential(nn.Conv2d(16, 3, 3, padding=1), nn.Tanh())

    def encode(self, x: Tensor) -> dict[str, object]:
        """To the bottleneck at 1/16 and the skips at 1/2, 1/4 and 1/8 of the side."""
        levels = []
        for layer in self.down:
            x = layer(x)
            levels.append(x)
        return {"bottleneck": levels[-1], "skips": levels[:-1]}

    def decode(self, features: dict[str, object]) -> Tensor:
        """From bottleneck and skips to the picture."""
        x = self.middle(features["bottleneck"])
        for layer, skip in zip(self.up, [*reversed(features["skips"]), None], strict=True):
            x = nn.functional.interpolate(x, scale_factor=2, mode="nearest")
            x = layer(x if skip is None else torch.cat([x, skip], dim=1))
        return self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        """Both halves."""
        return self.decode(self.encode(x))


class UNetInpainter(SplitInpainter):
    """The U-Net for refiner: bottleneck and skips are optimized together."""

    def __init__(self, weights: Path | None = None) -> None:
        # It was trained on pictures in [-1,1] whose hole has the mean color.
        encoding = Encoding(planes=("image", "hole"), low=-1, high=1, fill="mean")
        super().__init__(encoding, multiple=16, train_size=256, learning_rate=0.01)
        self.network = UNet()
        path = weights or Path(__file__).parent / "weights.safetensors"
        self.network.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})

    def front_half(self, x: Tensor) -> dict[str, object]:
        return self.network.encode(x)

    def rear_half(self, features: dict[str, object]) -> Tensor:
        return self.network.decode(features)

    def whole(self, image: Tensor, mask: Tensor) -> Tensor:
        """For `refiner check`: the network uncut."""
        return self.encoding.decode(self.network(self.encoding.encode(image, mask)))
