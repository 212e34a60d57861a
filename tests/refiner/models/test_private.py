"""The copy of a network that does the work."""

from __future__ import annotations

import copy
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from conftest import Toy
from torch import nn

from refiner import ModelError, ModelSpec
from refiner.models import private as privates
from refiner.models.copies import copy_with
from refiner.models.private import in_float32, private
from refiner.models.structure import structure_of


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


@pytest.fixture
def copies(monkeypatch) -> list[object]:
    """Every copy that was made anew."""
    made = []
    fresh = privates._fresh
    monkeypatch.setattr(privates, "_fresh", lambda model: made.append(fresh(model)) or made[-1])
    return made


def output_of(model) -> torch.Tensor:
    image, mask = torch.full((1, 3, 16, 16), 0.4), torch.zeros(1, 1, 16, 16)
    mask[..., 4:9, 5:12] = 1
    with private(model) as held, torch.no_grad():
        return held.rear(held.front(image, mask))


def test_a_copy_is_used_again_while_the_model_is_what_it_was(toy, copies) -> None:
    first = output_of(toy.train())
    assert all(part.numel() == 0 for part in copies[0].parameters()), "no weights are kept meanwhile"
    assert torch.equal(output_of(toy), first)
    assert len(copies) == 1
    with private(toy) as held:
        assert held is copies[0]
        assert not held.training
        for ours, theirs in zip(held.parameters(), toy.parameters(), strict=True):
            assert ours.data_ptr() == theirs.data_ptr()
            assert not ours.requires_grad
    assert toy.training
    assert all(part.requires_grad for part in toy.parameters())


def doubled_in_place(toy) -> None:
    with torch.no_grad():
        toy.out.weight.mul_(2)


def other_weight(toy) -> None:
    toy.out.weight = nn.Parameter(3 * toy.out.weight.detach())


def other_data(toy) -> None:
    toy.out.weight.data = -toy.out.weight.data


def other_layer(toy) -> None:
    torch.manual_seed(1)
    toy.out = nn.Conv2d(6, 3, 1)


def layer_around(toy) -> None:
    toy.out = nn.Sequential(toy.out, nn.Hardtanh(-0.1, 0.1))


def other_attribute(toy) -> None:
    toy.out.stride, toy.out.padding = (1, 1), (0, 0)
    toy.out.padding_mode, toy.out._reversed_padding_repeated_twice = "reflect", [1, 1, 1, 1]


def hook(toy) -> None:
    toy.out.register_forward_hook(lambda *called: called[-1] + 1)


def hook_with_a_closure(toy) -> None:
    by = [1.0]
    toy.out.register_forward_hook(lambda *called: called[-1] + by[0])


def other_method(toy) -> None:
    toy.rear = _constant


def _constant(features):
    return torch.zeros(1, 3, 16, 16)


def parametrization(toy) -> None:
    torch.nn.utils.parametrize.register_parametrization(toy.out, "weight", nn.Softmax(dim=1))


def weight_norm(toy) -> None:
    torch.nn.utils.parametrizations.weight_norm(toy.out)
    with torch.no_grad():
        toy.out.parametrizations.weight.original0.mul_(3)


CHANGES = [
    doubled_in_place, other_weight, other_data, other_layer, layer_around, other_attribute, hook, hook_with_a_closure,
    other_method, parametrization, weight_norm,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_caller_changes_between_calls_counts(toy, change) -> None:
    before = output_of(toy)
    change(toy)
    expected = output_of(copy.deepcopy(toy))  # which was never worked with
    assert not torch.equal(expected, before)
    assert torch.equal(output_of(toy), expected)
    assert torch.equal(output_of(toy), expected)


def test_a_model_in_another_precision_is_copied_anew(toy) -> None:
    output_of(toy)
    with private(toy.double()) as held:
        assert {part.dtype for part in held.parameters()} == {torch.float64}
    toy.spec = replace(toy.spec, multiple=8)
    with private(toy) as held:
        assert held.spec.multiple == 8


def test_calls_at_once_have_copies_of_their_own(toy, copies) -> None:
    with private(toy) as first, private(toy) as second:
        assert first is not second
    assert len(copies) == 2
    together, held = threading.Barrier(2), []

    def work(_: int) -> None:
        with private(toy) as mine:
            held.append(mine)
            together.wait(60)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(work, range(2)))
    assert held[0] is not held[1]
    assert {id(each) for each in held} == {id(each) for each in copies}, "those of before"


class Remembering(Toy):
    """Keeps something of each call, as code with a cache does."""

    calls = 0
    last = None

    def rear(self, features):
        self.calls, self.last = self.calls + 1, features["deep"]
        return super().rear(features) + self.calls


def test_a_copy_that_the_work_has_changed_is_not_used_again() -> None:
    model = Remembering()
    first = output_of(model)
    assert torch.equal(output_of(model), first)
    assert model.calls == 0


def test_idle_copies_keep_neither_a_model_nor_its_weights_alive() -> None:
    model = Toy()
    output_of(model)
    storage = weakref.ref(model.out.weight.untyped_storage())
    model.out.weight = nn.Parameter(torch.zeros_like(model.out.weight))
    gc.collect()
    assert storage() is None
    model.itself = model  # and in a circle
    output_of(model)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_what_cannot_be_told_apart_is_copied_each_time(toy, copies) -> None:
    toy.table = {torch.zeros(1), torch.ones(1)}  # in no order
    assert structure_of(toy) is None
    output_of(toy)
    output_of(toy)
    assert len(copies) == 2


def test_copies_are_those_that_python_makes() -> None:
    """Attributes, shared parts, containers and hooks, of modules of PyTorch's and of others'."""
    shared = nn.Linear(2, 2)
    model = nn.Sequential(shared, nn.BatchNorm2d(2), shared, nn.MultiheadAttention(4, 2), nn.ReLU())
    model.spec, model.front, model.rear = ModelSpec(multiple=4), _constant, _constant
    model.odd = [(1, [model[0], {"a": shared.weight}]), {1, 2}, shared.weight]
    model[1].register_forward_hook(_constant)
    ours, pythons = copy_with(model, lambda tensor: tensor.clone()), copy.deepcopy(model)
    mine, theirs = structure_of(ours), structure_of(pythons)
    assert mine is not None
    assert mine.is_that_of(theirs)
    assert ours[0] is ours[2] is ours.odd[0][1][0]
    assert ours.odd[2] is ours[0].weight is not shared.weight
    assert not mine.is_that_of(structure_of(Toy()))
