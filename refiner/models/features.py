"""Features between the two halves of a network: a tensor, or any nested tuple, list or dict of tensors."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

# The private name used here and in the modules around: PyTorch's own walk over nested structures.
from torch.utils._pytree import keystr, tree_flatten_with_path, tree_map

from refiner.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

Features = Any
"""A tensor, or any nested tuple, list or dict of tensors."""


def feature_names(features: Features) -> list[str]:
    """Names of the leaves of features, in order: keys and indices joined by dots, such as `skips.0`.

    Features that are one tensor are named `features`.
    """
    leaves, _ = tree_flatten_with_path(features)
    return [re.sub(r"[\[\]'.]+", ".", keystr(path)).strip(".") or "features" for path, _ in leaves]


def lr_factors(features: Features, lr_scale: Mapping[str, float]) -> list[float]:
    """Each leaf's factor on the learning rate, in order.

    Args:
        features: nested tensors.
        lr_scale: factors by name; a name stands for all leaves below it, the longest that fits counts, and 1 where
            none does.

    Raises:
        InputError: a name fits no leaf, or a factor is negative.
    """
    names = feature_names(features)

    def fits(name: str, leaf: str) -> bool:
        return leaf == name or leaf.startswith(f"{name}.")

    for name, factor in lr_scale.items():
        if not any(fits(name, leaf) for leaf in names):
            raise InputError(f"lr_scale: no feature is named {name!r}; expected one of {', '.join(names)}.")
        if factor < 0:
            raise InputError(f"lr_scale: expected factors from 0, got {factor} for {name!r}.")
    return [
        lr_scale[max((name for name in lr_scale if fits(name, leaf)), key=len)]
        if any(fits(name, leaf) for name in lr_scale)
        else 1.0
        for leaf in names
    ]


def cast_features(features: Features, dtype: torch.dtype) -> Features:
    """Features with their floating-point leaves in `dtype`."""
    return tree_map(lambda x: x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x, features)
