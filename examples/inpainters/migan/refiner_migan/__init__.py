"""MI-GAN behind refiner's split interface; its public checkpoints are known by their tensors.

Source: "MI-GAN: A Simple Baseline for Image Inpainting on Mobile Devices", ICCV 2023. Names of parameters are those of
the public files, such as `migan_512_places2.pt`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from refiner import ModelError, SplitInpainter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_GAIN, _MOST = math.sqrt(2), 256.0
_BLUR = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8


def _active(x: Tensor) -> Tensor:
    x = functional.leaky_relu(x, 0.2) * _GAIN
    with torch.no_grad():
        beyond = x.clamp(-_MOST, _MOST) - x  # 0 in any trained network; its gradient would keep x in memory
    return x + beyond


def _width(side: int) -> int:
    """Channels where a picture of the trained size has this side."""
    return min(32768 // side, 512)


class Halved(nn.Module):
    """Each channel filtered, and every other pixel taken."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.filter = nn.Conv2d(channels, channels, 4, stride=2, padding=1, groups=channels, bias=False)
        self.filter.weight.data[:] = torch.outer(_BLUR, _BLUR)

    def forward(self, x: Tensor) -> Tensor:
        return self.filter(x)


class Doubled(nn.Module):
    """Each channel with zeros between its pixels, filtered."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.filter = nn.Conv2d(channels, channels, 4, groups=channels, bias=False)
        self.filter.weight.data[:] = 4 * torch.outer(_BLUR, _BLUR)

    def forward(self, x: Tensor) -> Tensor:
        # A transposed convolution skips the zeros; it reads its kernel the other way round.
        kernel = self.filter.weight.flip(2, 3)
        return functional.conv_transpose2d(x, kernel, stride=2, padding=1, groups=x.shape[1])


class SeparableConv(nn.Module):
    """A convolution of each channel, then one across them, between them a change of size.

    Args:
        c_in: channels that come in.
        c_out: channels that go out.
        resize: `half`, `double`, or neither.
        noise: side of the noise that is added; None for none.
    """

    def __init__(self, c_in: int, c_out: int, resize: str = "", noise: int | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_in, 3, padding=1, groups=c_in)
        self.conv2 = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.downsample = Halved(c_in) if resize == "half" else None
        self.upsample = Doubled(c_out) if resize == "double" else None
        self.noise_strength = None
        if noise is not None:
            self.register_buffer("noise_const", torch.zeros(noise, noise))
            self.noise_strength = nn.Parameter(torch.zeros([]))

    def forward(self, x: Tensor) -> Tensor:
        x = _active(self.conv1(x))
        if self.downsample is not None:
            x = self.downsample(x)
        x = self.conv2(x)
        if self.upsample is not None:
            x = self.upsample(x)
        if self.noise_strength is not None:
            x = x + self._noise(x) * self.noise_strength
        return _active(x)

    def _noise(self, x: Tensor) -> Tensor:
        """The trained size's noise, repeated where the picture is larger."""
        height, width = x.shape[2:]
        side = self.noise_const.shape[0]
        return self.noise_const.repeat(-(-height // side), -(-width // side))[:height, :width]


class EncoderBlock(nn.Module):
    """Features for the decoder's block of this size, and what goes on to the next smaller one."""

    def __init__(self, c_in: int, c_out: int, *, picture: int | None = None, halve: bool = True) -> None:
        super().__init__()
        self.fromrgb = None if picture is None else nn.Conv2d(picture, c_in, 1)
        self.conv1 = SeparableConv(c_in, c_in)
        self.conv2 = SeparableConv(c_in, c_out, "half" if halve else "")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.fromrgb is not None:
            x = _active(self.fromrgb(x))
        feature = self.conv1(x)
        return self.conv2(feature), feature


class DecoderBlock(nn.Module):
    """Adds its size's detail to features and picture."""

    def __init__(self, c_in: int, c_out: int, side: int) -> None:
        super().__init__()
        first = side == 4  # noqa: PLR2004  the smallest, which is not enlarged
        self.conv1 = SeparableConv(c_in, c_out, "" if first else "double", None if first else side)
        self.conv2 = SeparableConv(c_out, c_out, noise=None if first else side)
        self.torgb = nn.Conv2d(c_out, 3, 1)
        self.upsample = None if first else Doubled(3)

    def forward(self, x: Tensor, skip: Tensor, picture: Tensor | None) -> tuple[Tensor, Tensor]:
        x = self.conv2(self.conv1(x) + skip)
        shown = self.torgb(x)
        return x, shown if picture is None else self.upsample(picture) + shown


class MiGan(nn.Module):
    """Mask and picture (N,4,H,W) to a picture (N,3,H,W) in [-1,1].

    Args:
        side: of the pictures it was trained on: 256 or 512.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.sides = [side >> level for level in range(int(math.log2(side)) - 1)]  # down to 4
        self.encoder, self.synthesis = nn.Module(), nn.Module()
        for here, below in zip(self.sides, [*self.sides[1:], 4], strict=True):
            block = EncoderBlock(_width(here), _width(below), picture=4 if here == side else None, halve=here != below)
            self.encoder.add_module(f"b{here}", block)
        for here in reversed(self.sides):
            c_in = _width(here) if here == 4 else _width(here // 2)  # noqa: PLR2004  the smallest
            self.synthesis.add_module(f"b{here}", DecoderBlock(c_in, _width(here), here))

    def encode(self, x: Tensor) -> dict[str, object]:
        """The smallest features, and those beside, the largest first."""
        skips = []
        for side in self.sides:
            x, skip = self.encoder.get_submodule(f"b{side}")(x)
            skips.append(skip)
        return {"deep": x, "skips": skips}

    def decode(self, features: dict[str, object]) -> Tensor:
        """From all features to the picture."""
        x, picture = features["deep"], None
        for side, skip in zip(reversed(self.sides), reversed(features["skips"]), strict=True):
            x, picture = self.synthesis.get_submodule(f"b{side}")(x, skip, picture)
        return picture

    def forward(self, x: Tensor) -> Tensor:
        """Both halves."""
        return self.decode(self.encode(x))


class MiGanInpainter(SplitInpainter):
    """MI-GAN for refiner, cut behind its encoder.

    Features at full size are not optimized: they could paint single pixels, and would take most of the memory.
    """

    def __init__(self, network: MiGan) -> None:
        side = network.sides[0]
        super().__init__(multiple=side // 4, train_size=side, learning_rate=0.01, lr_scale={"skips.0": 0})
        self.network = network
        self.eval()

    def front(self, image: Tensor, mask: Tensor) -> dict[str, object]:
        return self.network.encode(_encoded(image, mask))

    def rear(self, features: dict[str, object]) -> Tensor:
        return _decoded(self.network.decode(features))

    def front_half(self, x: Tensor) -> dict[str, object]:
        return self.network.encode(x)

    def rear_half(self, features: dict[str, object]) -> Tensor:
        return self.network.decode(features)

    def whole(self, image: Tensor, mask: Tensor) -> Tensor:
        """For `refiner check`: the network uncut."""
        return _decoded(self.network(_encoded(image, mask)))


def _encoded(image: Tensor, mask: Tensor) -> Tensor:
    """What the network sees: the known pixels' mask around 0, and they in [-1,1] with 0 in the hole."""
    known = 1 - mask
    return torch.cat([known - 0.5, (2 * image - 1) * known], dim=1)


def _decoded(output: Tensor) -> Tensor:
    return output * 0.5 + 0.5


class MiGanCheckpoints:
    """Opens MI-GAN's files for `--model FILE`."""

    def open(self, path: Path) -> MiGanInpainter:
        """The inpainter in a file.

        Raises:
            ModelError: it is no MI-GAN's.
        """
        return MiGanInpainter(network_of(_read(path), str(path)))

    def convert(
        self, source: Path, target: Path, *, half: bool, train_size: int | None, learning_rate: float | None
    ) -> None:
        """Write the weights as safetensors; what a MI-GAN works at follows from its tensors."""
        from safetensors.torch import save_file

        network = network_of(_read(source), str(source))
        if train_size is not None or learning_rate is not None:
            raise ModelError(f"{source}: sizes follow from its tensors; leave out train size and learning rate.")
        save_file({name: (part.half() if half else part) for name, part in network.state_dict().items()}, target)


CHECKPOINTS = MiGanCheckpoints()


def network_of(tensors: Mapping[str, Tensor], name: str) -> MiGan:
    """The network whose parameters these are.

    Raises:
        ModelError: they are no MI-GAN's.
    """
    sides = [side for side in (256, 512) if f"encoder.b{side}.fromrgb.weight" in tensors]
    if not sides:
        raise ModelError(f"{name}: is no MI-GAN; it has no tensor encoder.b512.fromrgb.weight or encoder.b256...")
    network = MiGan(sides[-1])
    # Masks of ones and zeros, which here a transposed convolution stands for.
    kept = {key: part.float() for key, part in tensors.items() if not key.endswith(".filter_const")}
    own = network.state_dict()
    missing = sorted(own.keys() - kept.keys())
    odd = sorted(kept.keys() - own.keys()) or [key for key in own if key in kept and own[key].shape != kept[key].shape]
    if missing or odd:
        raise ModelError(f"{name}: is no MI-GAN known here: {(missing or odd)[0]} is missing, too many, or misshapen.")
    network.load_state_dict(kept)
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
