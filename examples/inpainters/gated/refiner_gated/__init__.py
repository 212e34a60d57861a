"""A small coarse-to-fine network of gated convolutions, behind refiner's split interface.

Source of the shape: "Free-Form Image Inpainting with Gated Convolution", arXiv 1806.03589.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from refiner.models.split import Encoding, SplitInpainter


class GatedConv(nn.Module):
    """A convolution whose output is weighed, pixel by pixel, by another one."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 3, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            c_in, 2 * c_out, kernel, stride=stride, padding=dilation * (kernel - 1) // 2, dilation=dilation
        )

    def forward(self, x: Tensor) -> Tensor:
        values, gate = self.conv(x).chunk(2, dim=1)
        return nn.functional.elu(values) * torch.sigmoid(gate)


class Stage(nn.Module):
    """Picture and mask (N,4,H,W) to a picture (N,3,H,W): down to 1/4, dilated layers, up again."""

    def __init__(self, width: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            GatedConv(4, width, 5), GatedConv(width, 2 * width, stride=2), GatedConv(2 * width, 4 * width, stride=2)
        )
        self.decoder = nn.Sequential(
            *(GatedConv(4 * width, 4 * width, dilation=dilation) for dilation in dilations),
            nn.Upsample(scale_factor=2),
            GatedConv(4 * width, 2 * width),
            nn.Upsample(scale_factor=2),
            GatedConv(2 * width, width),
            nn.Conv2d(width, 3, 3, padding=1),
            nn.Sigmoid(),
        )


class CoarseToFine(nn.Module):
    """Two stages; the second sees the first one's fill in the hole."""

    def __init__(self) -> None:
        super().__init__()
        self.coarse = Stage(12, (1, 2, 4, 8, 16))
        self.fine = Stage(16, (1, 2, 4, 8))

    def encode(self, x: Tensor) -> Tensor:
        """The whole first stage and the second one's encoder: features (N,64,H/4,W/4)."""
        picture, hole = x[:, :3], x[:, 3:]
        filled = (1 - hole) * picture + hole * self.coarse.decoder(self.coarse.encoder(x))
        return self.fine.encoder(torch.cat([filled, hole], dim=1))

    def decode(self, features: Tensor) -> Tensor:
        """The second stage's decoder."""
        return self.fine.decoder(features)

    def forward(self, x: Tensor) -> Tensor:
        """Both halves."""
        return self.decode(self.encode(x))


class GatedInpainter(SplitInpainter):
    """The coarse-to-fine network for refiner, cut behind the second stage's encoder."""

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__(Encoding(fill=1.0), multiple=4, train_size=256, learning_rate=0.01)
        self.network = CoarseToFine()
        path = weights or Path(__file__).parent / "weights.safetensors"
        self.network.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})

    def front_half(self, x: Tensor) -> Tensor:
        return self.network.encode(x)

    def rear_half(self, features: Tensor) -> Tensor:
        return self.network.decode(features)

    def whole(self, image: Tensor, mask: Tensor) -> Tensor:
        """For `refiner check`: the network uncut."""
        return self.encoding.decode(self.network(self.encoding.encode(image, mask)))
