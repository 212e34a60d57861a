"""The network of LaMa's high-receptive-field perceptual loss: a dilated ResNet-50 trained to segment scenes.

Source: LaMa, arXiv 2109.07161, section 2.3. The weights are those of "Semantic Understanding of Scenes through the
ADE20K Dataset" (arXiv 1608.05442), public as `ade20k-resnet50dilated-ppm_deepsup/encoder_epoch_20.pth`; layers are
named as there. They cannot be shipped and are given by path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lama.checkpoint import DAMAGE
from refiner.errors import ModelError, first_line

if TYPE_CHECKING:
    from pathlib import Path

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
_EXPANSION = 4


class _Bottleneck(nn.Module):
    def __init__(self, c_in: int, width: int, *, stride: int, dilation: int) -> None:
        super().__init__()
        c_out = _EXPANSION * width
        self.conv1 = nn.Conv2d(c_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, c_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(c_out)
        changes = stride != 1 or c_in != c_out
        self.downsample = (
            nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False), nn.BatchNorm2d(c_out))
            if changes
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return torch.relu(self.bn3(self.conv3(y)) + shortcut)


def _stage(c_in: int, width: int, blocks: int, *, stride: int = 1, dilation: tuple[int, int] = (1, 1)) -> nn.Sequential:
    """Bottlenecks; the first has the stride and the first dilation, the others the second."""
    first = _Bottleneck(c_in, width, stride=stride, dilation=dilation[0])
    rest = [_Bottleneck(_EXPANSION * width, width, stride=1, dilation=dilation[1]) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


class DilatedResNet50(nn.Module):
    """ResNet-50 with a stem of three convolutions, whose last two stages keep 1/8 of the side and dilate."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.conv3 = nn.Conv2d(64, 128, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(128)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(128, 64, 3)
        self.layer2 = _stage(256, 128, 4, stride=2)
        self.layer3 = _stage(512, 256, 6, dilation=(1, 2))
        self.layer4 = _stage(1024, 512, 3, dilation=(2, 4))
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor
        self.eval().requires_grad_(False)

    def forward(self, picture: Tensor) -> list[Tensor]:
        """(N,3,H,W) in [0,1] to the features after each of the four stages."""
        x = (picture - self.mean) / self.std
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = torch.relu(norm(conv(x)))
        x = self.maxpool(x)
        features: list[Tensor] = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return features


def load_perceptual(path: Path) -> DilatedResNet50:
    """The network with its public weights.

    Raises:
        ModelError: the file is not readable or not this network's weights.
    """
    network = DilatedResNet50()
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        missing, unexpected = network.load_state_dict(tensors, strict=False)
    except DAMAGE as error:
        reason = first_line(error)
        raise ModelError(f"{path}: not readable as the perceptual network's weights ({reason}).") from error
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    unexpected = [name for name in unexpected if not name.startswith("fc.")]
    if missing or unexpected:
        raise ModelError(
            f"{path}: expected encoder_epoch_20.pth of ade20k-resnet50dilated-ppm_deepsup; "
            f"{len(missing)} tensors are missing and {len(unexpected)} unknown."
        )
    return network
