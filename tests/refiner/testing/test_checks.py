"""The conformance kit: passes what is sound, and names each planted fault."""

import re
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from conftest import Toy
from torch import nn

from refiner import ModelSpec, load_model
from refiner.cli.app import app
from refiner.errors import InputError, ModelError
from refiner.models.split import split_sequential
from refiner.testing import check, scan


def finding(model, name):
    return next(f for f in check(model).findings if f.name == name)


@pytest.mark.parametrize("name", ["golden", "lama-small", "toy", "sequence"])
def test_sound_networks_pass(name, tiny, toy) -> None:
    toy.spec = replace(toy.spec, learning_rate=0.02)
    models = {"golden": lambda: tiny, "lama-small": lambda: load_model(name), "toy": lambda: toy, "sequence": sequence}
    report = check(models[name]())
    assert report.passed, str(report)
    assert report.findings[-1].name == "refinement", "all checks were made, to the last"
    assert all(line.split()[0] in ("ok", "note") for line in str(report).splitlines())


def sequence():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 1)))
    up = nn.ConvTranspose2d(8, 3, 4, stride=4)
    layers = nn.Sequential(nn.Conv2d(4, 8, 4, stride=4), nn.ReLU(), body, up, nn.Sigmoid())
    return split_sequential(layers, 2, multiple=4, train_size=64, learning_rate=0.05)


class NoRear(nn.Module):
    spec = ModelSpec(multiple=4)

    def front(self, image, mask):
        return image


class NoSpec(Toy):
    def __init__(self):
        super().__init__()
        del self.spec


class Misspelled(Toy):
    lerning_rate = 0.01


class Misplaced(Toy):
    train_size = 64


class WrongMultiple(Toy):
    def __init__(self):
        super().__init__()
        self.spec = ModelSpec(multiple=2, train_size=32)


class Half(Toy):
    def rear(self, features):
        return super().rear(features)[..., ::2, ::2]


class SignedRange(Toy):
    def rear(self, features):
        return 2 * super().rear(features) - 1


class Bytes(Toy):
    def rear(self, features):
        return 255 * super().rear(features)


class DropoutOn(Toy):
    def rear(self, features):
        return nn.functional.dropout(super().rear(features), 0.1, training=True).clamp(0, 1)


class Peek(Toy):
    def front(self, image, mask):
        return super().front(image, mask * 0.999)


class BatchMean(Toy):
    def rear(self, features):
        prediction = super().rear(features)
        return 0.9 * prediction + 0.1 * prediction.mean(dim=0, keepdim=True)


class Lossy(Toy):
    def whole(self, image, mask):
        return 0.99 * self.rear(self.front(image, mask))


class DeadLeaf(Toy):
    def rear(self, features):
        return super().rear({"skips": [features["skips"][0].detach()], "deep": features["deep"]})


class UnusedLeaf(Toy):
    def front(self, image, mask):
        return {**super().front(image, mask), "spare": image}


class Detached(Toy):
    def rear(self, features):
        return super().rear(features).detach()


class NotFinite(Toy):
    def rear(self, features):
        return super().rear(features) / 0


class Strict(Toy):
    """Mixes a convolution's output with the picture in a way that wants one dtype."""

    def front(self, image, mask):
        features = super().front(image, mask)
        (skip,) = features["skips"]
        gray = (image * (1 - mask)).mean(dim=1, keepdim=True).expand_as(skip)
        return {**features, "skips": [torch.lerp(skip, gray, 0.1)]}


class TooFast:
    """Hands the picture on: right at once, and wrong after any large step."""

    spec = ModelSpec(multiple=4, learning_rate=1e6)

    def front(self, image, mask):
        return image * (1 - mask)

    def rear(self, features):
        return 0.98 * features.abs() + 0.01


class TooSlow(Toy):
    def __init__(self):
        super().__init__()
        self.spec = ModelSpec(multiple=4, train_size=32, learning_rate=1e-12)


class Crashes(Toy):
    def front(self, image, mask):
        raise ValueError("the dog ate it")


@pytest.mark.parametrize(
    ("model", "name", "words"),
    [
        (NoRear, "interface", "has no rear"),
        (NoSpec, "interface", "has no spec"),
        (Misspelled, "spelling", "`lerning_rate` is read by nothing; is it meant to be `learning_rate`"),
        (Misplaced, "spelling", "give it as train_size of its spec"),
        (WrongMultiple, "shapes", "seems to be 4"),
        (Half, "shapes", "where the picture is"),
        (NotFinite, "shapes", "not finite"),
        (Crashes, "shapes", "ValueError: the dog ate it"),
        (SignedRange, "range", r"\[-1,1\]"),
        (Bytes, "range", r"\[0,255\]"),
        (DropoutOn, "determinism", "dropout"),
        (Peek, "hidden pixels", "peeks"),
        (BatchMean, "batch", "stand alone"),
        (Lossy, "whole", "something is lost"),
        (DeadLeaf, "gradients", r"no gradient reaches skips\.0"),
        (UnusedLeaf, "gradients", "no gradient reaches spare"),
        (Detached, "gradients", "must not detach"),
        (Strict, "bfloat16", "with precision float32"),
        (TooFast, "refinement", "smaller one"),
        (TooSlow, "refinement", "larger one"),
    ],
)
def test_each_fault_has_its_own_message(model, name, words) -> None:
    report = check(model())
    failed = [f for f in report.findings if f.status == "failed"]
    assert not report.passed
    assert failed[0].name == name, str(report)
    assert re.search(words, failed[0].message), failed[0].message


def test_a_frozen_leaf_needs_no_gradient() -> None:
    model = UnusedLeaf()
    model.spec = replace(model.spec, lr_scale={"spare": 0})
    assert finding(model, "gradients").status == "ok"


def test_what_is_left_to_autograd_is_named() -> None:
    network = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.GELU(), nn.Conv2d(8, 3, 1), nn.Sigmoid())
    found = finding(split_sequential(network, 1), "memory")
    assert found.status == "note"
    assert "gelu" in found.message


def test_dropout_as_a_module_is_held_still_and_training_mode_comes_back(toy) -> None:
    toy.train()
    assert finding(toy, "determinism").status == "ok"
    assert toy.training
    assert toy.dropout.training


def test_scan_tries_every_cut() -> None:
    cuts = scan(sequence(), steps=4)
    assert [cut.at for cut in cuts] == ["1", "2.0", "2.1", "2.2.0", "2.2.1", "3", "4"]
    assert [cut.depth for cut in cuts] == list(range(1, 8))
    assert cuts[0].shape == ((8, 64, 64),)
    assert cuts[0].values == pytest.approx(8 / 16)
    assert cuts[-1].shape == ((3, 256, 256),)
    assert all(cut.loss_after <= cut.loss_before for cut in cuts)
    assert len({round(cut.loss_before, 5) for cut in cuts}) == 1  # the same network, however it is cut
    assert all(cut.seconds > 0 for cut in cuts)
    with pytest.raises(InputError, match="sequence"):
        scan(Toy())


MODULE = """
import torch
from torch import nn
from refiner.models.split import split_sequential

def sound():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(4, 8, 4, stride=4), nn.ReLU(), nn.ConvTranspose2d(8, 3, 4, stride=4), nn.Sigmoid())
    return split_sequential(layers, 1, multiple=4, learning_rate=0.02)

model = sound()
wrong = split_sequential(model.network, 1, multiple=2)
number = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "mine_for_tests.py").write_text(MODULE)
    (tmp_path / "broken_for_tests.py").write_text("import no_such_package_at_all")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("attribute", ["sound", "model"])
def test_command_checks_code_by_its_place(module, attribute) -> None:
    result = CliRunner().invoke(app, ["check", f"mine_for_tests:{attribute}", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "refinement lowers the loss" in result.output


def test_command_scans_and_fails_with_one(module) -> None:
    result = CliRunner().invoke(app, ["check", "mine_for_tests:wrong", "--device", "cpu"])
    assert result.exit_code == 1
    assert "seems to be 4" in result.output
    result = CliRunner().invoke(app, ["check", "mine_for_tests:sound", "--scan", "--device", "cpu"])
    assert result.exit_code == 0
    assert "cut before" in result.output


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("broken_for_tests:model", "No module named 'no_such_package_at_all'"),
        ("no_module_for_tests:model", "cannot be imported"),
        ("mine_for_tests:nothing", "cannot be imported"),
        ("mine_for_tests:number", "gave a int"),
        ("nothing", "unknown model"),
    ],
)
def test_code_that_cannot_be_used_is_one_line(module, name, words) -> None:
    with pytest.raises(ModelError, match=words):
        load_model(name)


def test_results_do_not_depend_on_earlier_randomness(toy) -> None:
    toy.spec = replace(toy.spec, learning_rate=0.02)
    first = str(check(toy))
    torch.rand(7)
    assert str(check(toy)) == first
