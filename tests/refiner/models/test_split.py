from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from refiner import Settings, refine
from refiner.errors import InputError, ModelError
from refiner.models.features import feature_names, lr_factors
from refiner.models.inpainter import Inpainter
from refiner.models.placement import Carry, placed_on, spread
from refiner.models.split import Encoding, SplitInpainter, split_sequential


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 1)))
    return nn.Sequential(
        nn.Conv2d(4, 8, 4, stride=4), nn.ReLU(), body, nn.ConvTranspose2d(8, 3, 4, stride=4), nn.Sigmoid()
    )


@pytest.mark.parametrize(
    ("at", "first"),
    [(1, "1"), (2, "2.0"), (-1, "4"), ("2", "2.0"), ("2.1", "2.1"), ("2.2", "2.2.0"), ("2.2.1", "2.2.1")],
)
def test_a_sequence_is_cut_at_an_index_or_a_name(at, first, scene) -> None:
    model = split_sequential(layers(), at, multiple=4)
    assert isinstance(model, Inpainter)
    assert model.layers[model.at][0] == first
    image, mask = (t[..., :64, :64] for t in scene)
    torch.testing.assert_close(model.rear(model.front(image, mask)), model.whole(image, mask))


@pytest.mark.parametrize("at", [0, 5, -5, "0", "9", "2.2.2", "bod"])
def test_cuts_that_leave_nothing_are_refused(at) -> None:
    with pytest.raises(ModelError, match="split at"):
        split_sequential(layers(), at)


def test_a_layer_used_twice_runs_twice(scene) -> None:
    relu = nn.ReLU()
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 8, 1), relu, nn.Conv2d(8, 8, 1), relu, nn.Conv2d(8, 3, 1))
    model = split_sequential(network, 3)
    assert [name for name, _ in model.layers] == ["0", "1", "2", "3", "4"]
    assert model.at == 3
    image, mask = scene
    torch.testing.assert_close(model.rear(model.front(image, mask)), model.whole(image, mask))


def test_a_single_nested_sequence_is_cut_anywhere() -> None:
    body = nn.Sequential(nn.Conv2d(4, 8, 1), nn.ReLU(), nn.Conv2d(8, 3, 1))
    model = split_sequential(nn.Sequential(OrderedDict(body=body)), "body.2")
    assert [model.moved_to(at).layers[at][0] for at in (1, 2)] == ["body.1", "body.2"]
    assert model.moved_to(1).at == 1


def test_an_own_sequence_is_not_opened() -> None:
    class Residual(nn.Sequential):
        def forward(self, x):
            return x + super().forward(x)

    model = split_sequential(nn.Sequential(nn.Conv2d(4, 3, 1), Residual(nn.ReLU(), nn.ReLU()), nn.Sigmoid()), 1)
    assert [name for name, _ in model.layers] == ["0", "1", "2"]


def test_a_cut_sequence_is_refined(scene) -> None:
    model = split_sequential(layers(), 2, multiple=4, train_size=32, learning_rate=0.05)
    result = refine(model, *scene, Settings(detail="features", steps=8))
    assert len(result.scales) == 2
    assert result.scales[-1].loss_after < result.scales[-1].loss_before


@given(low=st.floats(-2, 0.5), extent=st.floats(0.5, 300), fill=st.one_of(st.just("mean"), st.floats(-1, 1)))
@settings(max_examples=30, deadline=None)
def test_encoding_hides_the_hole_and_decoding_returns_the_picture(low, extent, fill) -> None:
    image, mask = torch.rand(2, 3, 6, 5), (torch.rand(2, 1, 6, 5) > 0.7).float()
    encoding = Encoding(low=low, high=low + extent, fill=fill)
    x = encoding.encode(image, mask)
    other = encoding.encode(torch.where(mask > 0, torch.rand_like(image), image), mask)
    assert torch.equal(x, other)
    known = (mask == 0).expand_as(image)
    torch.testing.assert_close(encoding.decode(x[:, :3])[known], image[known], atol=1e-4, rtol=1e-4)


def test_encoding_by_hand() -> None:
    image = torch.tensor([0.0, 0.5, 1.0, 0.25]).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    mask = torch.tensor([[[[0.0, 0.0], [0.0, 1.0]]]])
    x = Encoding(("known", "image", "ones", "hole"), low=-1, high=1, fill="mean").encode(image, mask)
    assert x[0, 0].flatten().tolist() == [1, 1, 1, 0]
    assert x[0, 1].flatten().tolist() == [-1, 0, 1, 0]  # the mean of the known ones is 0
    assert x[0, 4].flatten().tolist() == [1, 1, 1, 1]
    assert x[0, 5].flatten().tolist() == [0, 0, 0, 1]
    assert Encoding(fill=0.7).encode(image, mask)[0, 2, 1, 1].item() == pytest.approx(0.7)


@pytest.mark.parametrize("options", [{"planes": ("hole",)}, {"planes": ("image", "alpha")}, {"low": 1.0, "high": 0.0}])
def test_encodings_that_make_no_sense_are_refused(options) -> None:
    with pytest.raises(ModelError, match="encoding"):
        Encoding(**options)


class Skips(SplitInpainter):
    """Two features side by side."""

    def __init__(self, **options) -> None:
        super().__init__(multiple=4, train_size=32, learning_rate=0.05, **options)
        torch.manual_seed(0)
        self.deep, self.skip, self.out = (
            nn.Conv2d(4, 8, 4, stride=4),
            nn.Conv2d(4, 8, 1),
            nn.Conv2d(16, 3, 3, padding=1),
        )

    def front_half(self, x):
        return {"deep": torch.relu(self.deep(x)), "skips": [torch.relu(self.skip(x))]}

    def rear_half(self, features):
        up = nn.functional.interpolate(features["deep"], scale_factor=4)
        return torch.sigmoid(self.out(torch.cat([up, *features["skips"]], dim=1)))


def test_features_have_names() -> None:
    features = {"skips": [torch.zeros(1), torch.zeros(1)], "deep": (torch.zeros(1), 3)}
    assert feature_names(features) == ["skips.0", "skips.1", "deep.0", "deep.1"]
    assert feature_names(torch.zeros(1)) == ["features"]


def test_rates_go_by_the_longest_name() -> None:
    features = {"skips": [torch.zeros(1), torch.zeros(1)], "skip": torch.zeros(1), "deep": torch.zeros(1)}
    assert lr_factors(features, {"skips": 0.1, "skips.1": 0}) == [0.1, 0, 1, 1]
    with pytest.raises(InputError, match=r"named 'ship'; expected one of skips\.0, skips\.1, skip, deep"):
        lr_factors(features, {"ship": 1})
    with pytest.raises(InputError, match="from 0"):
        lr_factors(features, {"deep": -1})


def test_rates_scale_adams_steps_and_freeze_leaves(scene) -> None:
    seen: list[dict[str, torch.Tensor]] = []

    class Watched(Skips):
        def rear_half(self, features):
            seen.append({"deep": features["deep"].detach().clone(), "skip": features["skips"][0].detach().clone()})
            return super().rear_half(features)

    def steps(**options):
        seen.clear()
        refine(Watched(**options), *scene, Settings(detail="features", steps=2, windows="off", precision="float32"))
        last, before = seen[-1], seen[-2]
        return [(last[name] - before[name]).abs().max().item() for name in ("deep", "skip")]

    assert steps() == pytest.approx([0.05, 0.05], rel=1e-3)  # Adam's first step is the learning rate
    assert steps(lr_scale={"deep": 0.5, "skips": 0}) == pytest.approx([0.025, 0], rel=1e-3)
    assert steps(lr_scale={"skips.0": 0.1}) == pytest.approx([0.05, 0.005], rel=1e-3)
    with pytest.raises(ModelError, match="not all frozen"):
        steps(lr_scale={"deep": 0, "skips": 0})
    with pytest.raises(InputError, match="no feature is named 'nothing'"):
        steps(lr_scale={"nothing": 1})


def test_joint_optimization_lowers_the_loss_further(scene) -> None:
    losses = {}
    for name, rates in (("joint", {}), ("deep alone", {"skips": 0})):
        result = refine(Skips(lr_scale=rates), *scene, Settings(detail="features", steps=15, precision="float32"))
        losses[name] = result.scales[-1].loss_after
    assert losses["joint"] < losses["deep alone"]


def test_stages_are_dealt_out_and_the_result_stays(scene, tiny) -> None:
    settings = Settings(detail="features", min_side=32, steps=3, precision="float32")
    alone = refine(tiny, *scene, settings)
    moved: list[str] = []
    for model in (tiny, split_sequential(layers(), 1, multiple=4)):
        stages = model.spec.stages
        expected = refine(model, *scene, settings).image
        spread(model, [torch.device("cpu"), torch.device("cpu:1")])
        assert placed_on(model) == (torch.device("cpu"), torch.device("cpu:1"))
        assert len(stages) >= 2
        first = stages[0]
        handle = first.register_forward_pre_hook(lambda *_: moved.append("first"))
        again = refine(model, *scene, settings)
        handle.remove()
        assert moved
        assert again.plan.bytes is not None  # a rehearsal still runs
        assert torch.equal(again.image, expected)
        spread(model, [torch.device("cpu")])
        assert placed_on(model) == ()
        assert not any(m._forward_pre_hooks for m in model.modules())
    assert torch.equal(refine(tiny, *scene, settings).image, alone.image)


def test_tensors_travel_to_their_stage() -> None:
    """Meta stands for a second device: shapes arrive there, and hooks carry nested tensors and keywords."""
    carry = Carry(torch.device("meta"))
    (args, kwargs) = carry(nn.Identity(), (torch.zeros(2), [torch.ones(3), "text"]), {"mask": torch.zeros(1)})
    assert args[0].device.type == args[1][0].device.type == kwargs["mask"].device.type == "meta"
    assert args[1][1] == "text"


def test_each_stage_gets_its_device_in_turn(monkeypatch) -> None:
    model = split_sequential(layers(), 1, multiple=4)
    where: dict[str, str] = {}
    for name, layer in model.layers:
        monkeypatch.setattr(layer, "to", lambda device, name=name: where.setdefault(name, str(device)))
    spread(model, [torch.device("cpu"), torch.device("cpu:1"), torch.device("cpu:2")])
    assert where == {
        "1": "cpu",
        "2.0": "cpu",
        "2.1": "cpu",
        "2.2.0": "cpu:1",
        "2.2.1": "cpu:1",
        "3": "cpu:2",
        "4": "cpu:2",
    }


def test_a_model_without_stages_takes_one_device(toy) -> None:
    spread(toy, [torch.device("cpu")])
    with pytest.raises(InputError, match="2 devices given, but this model has 0 stages"):
        spread(toy, [torch.device("cpu"), torch.device("cpu")])


@pytest.mark.skipif(torch.cuda.device_count() < 1, reason="needs a CUDA device")
def test_halves_on_two_kinds_of_device(scene, tiny) -> None:
    settings = Settings(detail="features", min_side=32, steps=3, precision="float32")
    expected = refine(tiny, *scene, settings).image
    spread(tiny, [torch.device("cpu"), torch.device("cuda")])
    try:
        torch.testing.assert_close(refine(tiny, *scene, settings).image, expected, atol=1e-3, rtol=0)
    finally:
        spread(tiny, [torch.device("cpu")])
