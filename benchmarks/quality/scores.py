"""Numbers for one filled picture, and for a set of them."""

from __future__ import annotations

import hashlib
import importlib.util
import pickle
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from refiner.errors import InputError, first_line
from refiner.evaluation.metrics import TEXTURE_LEVELS, hole_l1, hole_psnr, hole_ssim, texture_distance
from refiner.evaluation.no_reference import looks
from refiner.exemplar import unlikeness

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_LOOKS = ("grid", "rim", "sharpness")  # compared with the photo around the hole
PER_IMAGE = (
    "l1",
    "psnr",
    "ssim",
    *(f"texture {level}" for level in range(TEXTURE_LEVELS)),
    *_LOOKS,
    "unlikeness",
    "lpips",
)
_SUBSETS, _SUBSET_SIZE = 50, 100  # of KID, as torchmetrics draws them


def score(filled: Tensor, target: Tensor, hole: Tensor) -> dict[str, float]:
    """The metrics of one picture (1,3,H,W) that need no pretrained network."""
    textures = texture_distance(filled, target, hole)[0]
    seen = looks(filled, hole)
    return {
        "l1": hole_l1(filled, target, hole).item(),
        "psnr": hole_psnr(filled, target, hole).item(),
        "ssim": hole_ssim(filled, target, hole).item(),
        **{f"texture {level}": value.item() for level, value in enumerate(textures)},
        **{name: getattr(seen, name).item() for name in _LOOKS},
        "unlikeness": unlikeness(filled, hole),
    }


class Perceptual:
    """LPIPS of pairs of pictures, by torchmetrics.

    Args:
        net: `vgg`, as LaMa's evaluation uses, or `alex`.
        device: where to compute.

    Raises:
        InputError: torchmetrics or torchvision is not installed, or the weights cannot be had.
    """

    def __init__(self, net: str, device: torch.device) -> None:
        _require("torchmetrics", "torchvision")
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity  # noqa: PLC0415

        self._device = device
        self.name = net
        try:
            self._metric = LearnedPerceptualImagePatchSimilarity(net_type=net, normalize=True).to(device)
        except (OSError, RuntimeError, ModuleNotFoundError) as error:
            raise InputError(f"LPIPS: its weights cannot be had ({first_line(error)}).") from error

    def __call__(self, filled: Tensor, target: Tensor) -> float:
        """LPIPS between pictures (1,3,H,W) in [0,1]."""
        self._metric.reset()
        with torch.no_grad():
            self._metric.update(filled.to(self._device), target.to(self._device))
        return float(self._metric.compute())


class Inception:
    """Features of FID's network, by torchmetrics.

    Args:
        weights: file of its weights; None downloads them.
        device: where to compute.

    Raises:
        InputError: torchmetrics or torch-fidelity is not installed, or the weights cannot be had or read.
    """

    def __init__(self, weights: Path | None, device: torch.device) -> None:
        _require("torchmetrics", "torch_fidelity")
        from torchmetrics.image.fid import NoTrainInceptionV3  # noqa: PLC0415

        self._device = device
        self.name = "inception" if weights is None else hashlib.sha256(weights.read_bytes()).hexdigest()[:8]
        path = None if weights is None else str(weights)
        try:
            self._network = NoTrainInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=path).to(
                device
            )
        except (OSError, RuntimeError, ModuleNotFoundError, pickle.UnpicklingError) as error:
            raise InputError(f"FID: its network's weights cannot be had ({first_line(error)}).") from error

    def __call__(self, image: Tensor) -> NDArray[np.float32]:
        """Features (2048,) of a picture (1,3,H,W) in [0,1]."""
        with torch.no_grad():
            features: Tensor = self._network((image * 255).byte().to(self._device))
        return features[0].float().cpu().numpy()


class _Given(nn.Module):
    """Gives its input back, so that torchmetrics takes features that were computed before in place of pictures."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.num_features = count

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(fake: NDArray[Any], real: NDArray[Any]) -> float:
    """Fréchet distance between the Gaussians fitted to two sets of features (N,F): FID where they are Inception's."""
    _require("torchmetrics")
    from torchmetrics.image.fid import FrechetInceptionDistance  # noqa: PLC0415

    metric = FrechetInceptionDistance(feature=_Given(fake.shape[1]), normalize=True, input_img_size=(1, 1, 1))
    metric.set_dtype(torch.float64)
    metric.update(torch.from_numpy(np.asarray(real, dtype=np.float64)), real=True)
    metric.update(torch.from_numpy(np.asarray(fake, dtype=np.float64)), real=False)
    return float(metric.compute())


def kernel_distance(fake: NDArray[Any], real: NDArray[Any], *, seed: int = 0) -> float:
    """KID of two sets of features: the squared maximum mean discrepancy under a cubic kernel, averaged over subsets.

    Fills and photos come in pairs, and a picture is nearer to its own photo than to others: that lowers the value by an
    amount that falls with the number of pictures. Compare values only where the number of pictures is the same.
    """
    _require("torchmetrics")
    from torchmetrics.image.kid import KernelInceptionDistance  # noqa: PLC0415

    size = min(_SUBSET_SIZE, len(fake), len(real))
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchmetrics warns that it keeps all features
        torch.manual_seed(seed)
        metric = KernelInceptionDistance(
            feature=_Given(fake.shape[1]), subsets=_SUBSETS, subset_size=size, normalize=True
        )
        metric.update(torch.from_numpy(np.asarray(real, dtype=np.float64)), real=True)
        metric.update(torch.from_numpy(np.asarray(fake, dtype=np.float64)), real=False)
        mean, _ = metric.compute()
    return float(mean)


def _require(*packages: str) -> None:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f'{", ".join(missing)}: not installed; pip install "refiner-inpainting[metrics]".')
