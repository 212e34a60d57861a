"""Fast Fourier convolution: a convolution whose global branch sees the whole picture at once.

Source: "Fast Fourier Convolution" (NeurIPS 2020) as used by "Resolution-robust Large Mask Inpainting with
Fourier Convolutions" (LaMa, arXiv 2109.07161). Attribute names follow the public checkpoints, so that their
tensors load without renaming.

Shapes in comments: N pictures, C channels, H x W pixels; `l` marks the local, `g` the global branch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from refiner.frozen import inverse_rfft2


def conv(c_in: int, c_out: int, kernel: int, *, stride: int = 1, padding: int = 0) -> nn.Conv2d:
    """A convolution as LaMa builds them inside FFC: reflection padding, no bias."""
    return nn.Conv2d(c_in, c_out, kernel, stride=stride, padding=padding, padding_mode="reflect", bias=False)


class FourierUnit(nn.Module):
    """A 1x1 convolution over the spectrum: every output pixel depends on every input pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_layer = conv(2 * channels, 2 * channels, 1)
        self.bn = nn.BatchNorm2d(2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N,C,H,W) to (N,C,H,W)."""
        n, c, h, w = x.shape
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x  # FFTs need float32, as under autocast
        spectrum = torch.view_as_real(torch.fft.rfft2(wide, norm="ortho"))  # (N,C,H,W//2+1,2)
        spectrum = spectrum.permute(0, 1, 4, 2, 3).reshape(n, 2 * c, h, w // 2 + 1)  # re0 im0 re1 im1 ...
        spectrum = torch.relu(self.bn(self.conv_layer(spectrum)))
        spectrum = spectrum.to(wide.dtype).reshape(n, c, 2, h, w // 2 + 1).permute(0, 1, 3, 4, 2).contiguous()
        return inverse_rfft2(torch.view_as_complex(spectrum), (h, w), "ortho")


class SpectralTransform(nn.Module):
    """The global-to-global path: reduce channels, mix in the spectrum, expand."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        half = c_out // 2
        self.conv1 = nn.Sequential(conv(c_in, half, 1), nn.BatchNorm2d(half), nn.ReLU(inplace=True))
        self.fu = FourierUnit(half)
        self.conv2 = conv(half, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N,C_in,H,W) to (N,C_out,H,W)."""
        x = self.conv1(x)  # (N,C_out/2,H,W)
        out: Tensor = self.conv2(x + self.fu(x))
        return out


class FFC(nn.Module):
    """The four convolutions within and between the branches; one exists where both its ends have channels."""

    def __init__(
        self,
        c_in: tuple[int, int],
        c_out: tuple[int, int],
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
    ) -> None:
        super().__init__()
        (l_in, g_in), (l_out, g_out) = c_in, c_out

        def spatial(a: int, b: int) -> nn.Conv2d | None:
            return conv(a, b, kernel, stride=stride, padding=padding) if a and b else None

        self.convl2l = spatial(l_in, l_out)
        self.convl2g = spatial(l_in, g_out)
        self.convg2l = spatial(g_in, l_out)
        self.convg2g = SpectralTransform(g_in, g_out) if g_in and g_out else None

    def forward(self, local: Tensor | None, glob: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Local and global (N,C,H,W), None where a branch has no channels; the same out."""
        return (
            _sum_paths((self.convl2l, local), (self.convg2l, glob)),
            _sum_paths((self.convl2g, local), (self.convg2g, glob)),
        )


class FFCBlock(nn.Module):
    """FFC, then BatchNorm and ReLU on each branch that exists."""

    def __init__(
        self,
        c_in: tuple[int, int],
        c_out: tuple[int, int],
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
    ) -> None:
        super().__init__()
        self.ffc = FFC(c_in, c_out, kernel, stride=stride, padding=padding)
        self.bn_l = nn.BatchNorm2d(c_out[0]) if c_out[0] else None
        self.bn_g = nn.BatchNorm2d(c_out[1]) if c_out[1] else None

    def forward(self, branches: tuple[Tensor | None, Tensor | None]) -> tuple[Tensor | None, Tensor | None]:
        """Local and global (N,C,H,W), None where a branch has no channels; the same out."""
        local, glob = self.ffc(*branches)
        return (
            torch.relu(self.bn_l(local)) if self.bn_l is not None else None,
            torch.relu(self.bn_g(glob)) if self.bn_g is not None else None,
        )


class FFCResidualBlock(nn.Module):
    """Two FFC blocks of the same width, added to their input."""

    def __init__(self, channels: tuple[int, int]) -> None:
        super().__init__()
        self.conv1 = FFCBlock(channels, channels, 3, padding=1)
        self.conv2 = FFCBlock(channels, channels, 3, padding=1)

    def forward(self, branches: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Local (N,Cl,H,W) and global (N,Cg,H,W); the same out."""
        local, glob = self.conv2(self.conv1(branches))
        return branches[0] + local, branches[1] + glob


def _sum_paths(*paths: tuple[nn.Module | None, Tensor | None]) -> Tensor | None:
    outputs: list[Tensor] = [module(x) for module, x in paths if module is not None]
    return sum(outputs[1:], start=outputs[0]) if outputs else None
