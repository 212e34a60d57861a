"""PatchGAN: judges for each patch whether it is from a photo.

Source: "Image-to-Image Translation with Conditional Adversarial Networks", arXiv 1611.07004, in the form of
"High-Resolution Image Synthesis with Conditional GANs", arXiv 1711.11585, that LaMa uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from lama.training.config import DiscriminatorConfig

_MAX_WIDTH = 512
_KERNEL, _PADDING = 4, 2


class Discriminator(nn.Module):
    """Picture to logits of patches, and the features on the way."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        width = config.ndf
        layers = [nn.Sequential(_conv(3, width, stride=2), nn.LeakyReLU(0.2))]
        for number in range(1, config.n_layers + 1):
            before, width = width, min(2 * width, _MAX_WIDTH)
            stride = 2 if number < config.n_layers else 1
            layers += [nn.Sequential(_conv(before, width, stride), nn.BatchNorm2d(width), nn.LeakyReLU(0.2))]
        self.layers = nn.ModuleList(layers)
        self.head = _conv(width, 1, stride=1)

    def forward(self, picture: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(N,3,H,W) in [0,1] to logits (N,1,h,w) in float32, and the features of each layer."""
        features: list[Tensor] = []
        x = picture
        for layer in self.layers:
            x = layer(x)
            features.append(x)
        return self.head(x).float(), features


def _conv(c_in: int, c_out: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, _KERNEL, stride=stride, padding=_PADDING)
