"""AOT-GAN behind refiner's split interface; its public checkpoints are known by their tensors.

Source: "Aggregated Contextual Transformations for High-Resolution Image Inpainting", arXiv 2104.01431. Names of
parameters are those of the public files, `G0000000.pt` of CelebA-HQ and Places2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from refiner import Encoding, ModelError, SplitInpainter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_RATES = (1, 2, 4, 8)  # dilations side by side in each block
_CHANNELS = 256


def _conv(channels: int, out: int, rate: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.ReflectionPad2d(rate), nn.Conv2d(channels, out, 3, dilation=rate))


class Block(nn.Module):
    """Several reaches of context at once, let in by a gate."""

    def __init__(self) -> None:
        super().__init__()
        for index, rate in enumerate(_RATES):
            self.add_module(f"block{index:02}", _conv(_CHANNELS, _CHANNELS // len(_RATES), rate).append(nn.ReLU()))
        self.fuse, self.gate = _conv(_CHANNELS, _CHANNELS), _conv(_CHANNELS, _CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.get_submodule(f"block{index:02}")(x) for index in range(len(_RATES))]
        gate = self.gate(x)
        mean, deviation = gate.mean((2, 3), keepdim=True), gate.std((2, 3), keepdim=True)
        gate = torch.sigmoid(5 * (2 * (gate - mean) / (deviation + 1e-9) - 1))
        return x * (1 - gate) + self.fuse(torch.cat(parts, dim=1)) * gate


class Doubled(nn.Module):
    """Twice the size, then a convolution."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True))


class AotGan(nn.Module):
    """Picture and mask (N,4,H,W) to a picture (N,3,H,W) in [-1,1].

    Args:
        blocks: how many there are in the middle; 8 in the public files.
    """

    def __init__(self, blocks: int = 8) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.ReflectionPad2d(3), nn.Conv2d(4, 64, 7), nn.ReLU(),
            nn.Conv2d(64, 128, 4, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(128, _CHANNELS, 4, stride=2, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.middle = nn.Sequential(*(Block() for _ in range(blocks)))
        self.decoder = nn.Sequential(
            Doubled(_CHANNELS, 128), nn.ReLU(), Doubled(128, 64), nn.ReLU(), nn.Conv2d(64, 3, 3, padding=1)
        )

    def decode(self, features: Tensor) -> Tensor:
        """All behind the encoder."""
        return torch.tanh(self.decoder(self.middle(features)))

    def forward(self, x: Tensor) -> Tensor:
        """Both halves."""
        return self.decode(self.encoder(x))


class AotGanInpainter(SplitInpainter):
    """AOT-GAN for refiner, cut behind its last downsampling layer, as the paper on refinement cuts LaMa."""

    def __init__(self, network: AotGan) -> None:
        encoding = Encoding(low=-1, high=1, fill=1.0)  # the hole is white
        # Reflection by the largest dilation needs more pixels than that at a quarter of the side.
        super().__init__(encoding, multiple=4, train_size=512, min_input_side=4 * (max(_RATES) + 1))
        self.network = network
        self.eval()

    def front_half(self, x: Tensor) -> Tensor:
        return self.network.encoder(x)

    def rear_half(self, features: Tensor) -> Tensor:
        return self.network.decode(features)

    def whole(self, image: Tensor, mask: Tensor) -> Tensor:
        """For `refiner check`: the network uncut."""
        return self.encoding.decode(self.network(self.encoding.encode(image, mask)))


class AotGanCheckpoints:
    """Opens AOT-GAN's files for `--model FILE`."""

    def open(self, path: Path) -> AotGanInpainter:
        """The inpainter in a file.

        Raises:
            ModelError: it is no AOT-GAN's.
        """
        return AotGanInpainter(network_of(_read(path), str(path)))

    def convert(
        self, source: Path, target: Path, *, half: bool, train_size: int | None, learning_rate: float | None
    ) -> None:
        """Write the weights as safetensors."""
        from safetensors.torch import save_file

        network = network_of(_read(source), str(source))
        if train_size is not None or learning_rate is not None:
            raise ModelError(f"{source}: AOT-GAN has no place for train size and learning rate; leave them out.")
        save_file({name: (part.half() if half else part) for name, part in network.state_dict().items()}, target)


CHECKPOINTS = AotGanCheckpoints()


def network_of(tensors: Mapping[str, Tensor], name: str) -> AotGan:
    """The network whose parameters these are.

    Raises:
        ModelError: they are no AOT-GAN's.
    """
    blocks = 0
    while f"middle.{blocks}.block00.1.weight" in tensors:
        blocks += 1
    network = AotGan(blocks)
    own = network.state_dict()
    odd = sorted(own.keys() ^ tensors.keys()) or [key for key in own if own[key].shape != tensors[key].shape]
    if odd or not blocks:
        raise ModelError(f"{name}: is no AOT-GAN: {(odd or ['middle'])[0]} is missing, too many, or misshapen.")
    network.load_state_dict({key: part.float() for key, part in tensors.items()})
    return network


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors in a file.

    Raises:
        ModelError: it cannot be read.
    """
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file brings about
        raise ModelError(f"{path}: cannot be read as PyTorch weights ({type(error).__name__}).") from error
    if not isinstance(found, dict) or not all(isinstance(part, Tensor) for part in found.values()):
        raise ModelError(f"{path}: holds no dictionary of tensors.")
    return found
