"""Which precision convolutions are computed in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from refiner.errors import SettingsError
from refiner.torch_state import has_tf32

if TYPE_CHECKING:
    from refiner.settings import Precision

_TRIED, _TRIED_IN_TF32 = 8, 64  # predictions from which timing cuDNN's algorithms pays


def uses_tf32(precision: Precision, device: torch.device) -> bool:
    """Whether float32 is multiplied with 10 bits of mantissa: where asked for, and by default on NVIDIA GPUs."""
    return precision == "tf32" or (precision == "auto" and has_tf32(device))


def conv_dtype(precision: Precision, device: torch.device, dtype: torch.dtype) -> torch.dtype | None:
    """The dtype for convolutions; None leaves them in the picture's own.

    Args:
        precision: `auto` takes bfloat16 where a CPU computes in it, for pictures in float32. An NVIDIA GPU takes TF32,
            which is nearer to float32 and needs no casts.
        device: where the work is done.
        dtype: the picture's.

    Raises:
        SettingsError: the device does not have the precision asked for.
    """
    if precision == "tf32" and not has_tf32(device):
        raise SettingsError(
            f"precision: tf32 needs an NVIDIA GPU from Ampere on, and {device} is none; expected auto, float32 or "
            "bfloat16."
        )
    if precision == "bfloat16" or (precision == "auto" and dtype == torch.float32 and _has_bfloat16(device)):
        return torch.bfloat16
    return None


def trying_pays(predictions: int, *, tf32: bool) -> bool:
    """Whether cuDNN should time its algorithms for so many predictions of one shape, see `algorithms_tried`.

    Left to its rules of thumb it took, at 1024x1024 on an H200, an algorithm of 800 small FFT kernels for a 7x7
    convolution in float32, and for gradients one without tensor cores: 50 ms of each prediction, which also holds for
    bfloat16, where the convolution that makes the picture stays in float32. In TF32 it chose well. To time ten
    algorithms for each of a network's twenty convolutions takes a few tenths of a second.
    """
    return predictions >= (_TRIED_IN_TF32 if tf32 else _TRIED)


def _has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16, rather than emulating it."""
    # PyTorch has only private names for this; float32 is right where a version lacks them.
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in names)
