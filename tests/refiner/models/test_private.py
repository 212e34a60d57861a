"""The copy of a network that does the work."""

from __future__ import annotations

import pytest
import torch
from conftest import Toy
from torch import nn

from refiner import ModelError, ModelSpec
from refiner.models.private import copy_with, in_float32, private


class Odd:
    """Holds networks and tensors where no one registers them."""

    spec = ModelSpec(multiple=4)

    def __init__(self) -> None:
        self.network = Toy().train()
        self.more = {"list": [nn.BatchNorm2d(3)], "tuple": (nn.Dropout(),), "set": {nn.ReLU()}}
        self.method = self.network.rear
        self.table = torch.arange(3.0)
        self.itself = self

    def front(self, image, mask):
        return self.network.front(image, mask)

    def rear(self, features):
        return self.method(features)


def test_it_shares_the_weights_and_nothing_else(toy) -> None:
    toy.train()
    with private(toy) as held:
        assert held is not toy
        assert not held.training
        assert not held.dropout.training
        for ours, theirs in zip(held.parameters(), toy.parameters(), strict=True):
            assert ours.data_ptr() == theirs.data_ptr()
            assert not ours.requires_grad
            assert theirs.requires_grad
        assert toy.training


def test_modules_that_no_one_registered_are_held_too() -> None:
    model = Odd()
    with private(model) as held:
        assert held.itself is held
        assert held.table.data_ptr() == model.table.data_ptr()
        assert held.method.__self__ is held.network
        modules = [held.network, held.more["list"][0], held.more["tuple"][0], *held.more["set"]]
        assert not any(module.training for module in modules)
        assert not any(p.requires_grad for module in modules for p in module.parameters())
    assert model.network.training
    assert model.more["list"][0].training


class Scripted(nn.Module):
    """TorchScript inside, whose copies would have weights of their own."""

    spec = ModelSpec(multiple=4)

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.jit.trace(nn.Conv2d(3, 3, 1), torch.rand(1, 3, 4, 4))

    def front(self, image, mask):
        return image * (1 - mask)

    def rear(self, features):
        return self.inner(features)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*deprecated:FutureWarning")
def test_what_cannot_be_copied_is_held_itself_and_restored() -> None:
    model = Scripted().train()
    with private(model) as held:
        assert held is model
        assert not model.training
        assert not any(p.requires_grad for p in model.parameters())
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    with pytest.raises(ModelError, match="has 16-bit weights and cannot be copied into float32"):
        in_float32(model)


def test_a_copy_in_float32(toy) -> None:
    toy.register_buffer("count", torch.tensor(3))
    copied = in_float32(toy.half())
    assert {p.dtype for p in copied.parameters()} == {torch.float32}
    assert copied.count.dtype == torch.int64
    assert {p.dtype for p in toy.parameters()} == {torch.float16}


def test_a_copy_without_data(toy) -> None:
    copied = copy_with(toy, lambda tensor: torch.empty_like(tensor, device="meta"))
    assert all(p.is_meta for p in copied.parameters())
    toy.stuck = (step for step in range(3))  # a generator has no copy
    assert copy_with(toy, lambda tensor: tensor) is None
