"""The authors' generator and refinement, from a user's clone of advimman/lama, run beside ours."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from refiner.engine.objective import ellipse_kernel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from lama import Generator

# Packages that the needed files import, but only training uses.
_TRAINING_ONLY = ("pytorch_lightning", "easydict", "omegaconf", "hydra", "albumentations", "webdataset")


class Reference:
    """The authors' code with the weights of one of our generators.

    Args:
        folder: the clone.
        generator: LaMa of any size; its weights are copied.
        device: where to run.

    Raises:
        ModuleNotFoundError: the folder is no clone of advimman/lama.
    """

    def __init__(self, folder: Path, generator: Generator, device: torch.device) -> None:
        sys.path.insert(0, str(folder))
        sys.meta_path.append(_Stubs())
        # The package's `__init__` imports metrics that refinement does not need, so an empty package takes its place.
        package = ModuleType("saicinpainting.evaluation")
        package.__path__ = [str(folder / "saicinpainting" / "evaluation")]
        sys.modules[package.__name__] = package
        ffc: Any = importlib.import_module("saicinpainting.training.modules.ffc")
        self._refinement: Any = importlib.import_module("saicinpainting.evaluation.refinement")
        config = generator.config
        ratio = config.global_channels / sum(config.channels)
        self._generator = ffc.FFCResNetGenerator(
            4, 3, ngf=config.ngf, n_downsampling=config.n_downsampling, n_blocks=config.n_blocks, add_out_act="sigmoid",
            init_conv_kwargs={"ratio_gin": 0, "ratio_gout": 0, "enable_lfu": False},
            downsample_conv_kwargs={"ratio_gin": 0, "ratio_gout": 0, "enable_lfu": False},
            resnet_conv_kwargs={"ratio_gin": ratio, "ratio_gout": ratio, "enable_lfu": False},
        ).eval()  # fmt: skip
        self._generator.load_state_dict(generator.state_dict())
        self._generator.requires_grad_(False).to(device)
        if device.type == "cpu":
            setattr(self._refinement, "torch", _CudaIsCpu())  # noqa: B010  not a name of a module type

    def refine(self, image: Tensor, mask: Tensor, *, steps: int, lr: float, min_side: int) -> Tensor:
        """The authors' `refine_predict` of a picture (1,3,H,W) and a mask (1,1,H,W), without its pixel budget."""
        height, width = image.shape[-2:]
        result: Tensor = self._refinement.refine_predict(
            {"image": image, "mask": mask, "unpad_to_size": [torch.tensor([height]), torch.tensor([width])]},
            SimpleNamespace(generator=self._generator, training=False, add_noise_kwargs=None, concat_mask=True),
            gpu_ids="0,",
            modulo=8,
            n_iters=steps,
            lr=lr,
            min_side=min_side,
            max_scales=3,
            px_budget=height * width,
        )
        return result


class _CudaIsCpu:
    """PyTorch, except that `torch.device` gives the CPU: the authors' code asks for `cuda:0` on any machine."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def device(self, _: str) -> torch.device:
        return torch.device("cpu")


class _Stubs(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports empty modules for what only training needs, and an OpenCV with the one function that refinement calls."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        wanted = fullname.partition(".")[0] in (*_TRAINING_ONLY, "cv2")
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True) if wanted else None

    def exec_module(self, module: ModuleType) -> None:
        names: dict[str, Any] = {"seed_everything": None, "EasyDict": dict}
        if module.__name__ == "cv2":
            names = {
                "MORPH_ELLIPSE": 2,
                "INTER_AREA": 3,
                "getStructuringElement": lambda _, size: ellipse_kernel(size[0]).numpy().astype(np.uint8),
            }
        for name, value in names.items():
            setattr(module, name, value)
