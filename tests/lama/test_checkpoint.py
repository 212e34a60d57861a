from __future__ import annotations

import pickle
import warnings

import pytest
import torch
from conftest import GOLDEN
from safetensors import safe_open
from safetensors.torch import save_file

from lama.checkpoint import load_generator
from lama.weights import CHECKPOINTS
from refiner import ModelError, load_model


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    state = torch.load(GOLDEN / "models" / "best.ckpt", weights_only=True)["state_dict"]
    return {k.removeprefix("generator."): v for k, v in state.items() if k.startswith("generator.")}


def same_network(path, tiny) -> bool:
    generator, _ = load_generator(path)
    expected = tiny.generator.state_dict()
    return all(
        torch.equal(tensor, expected[name])
        for name, tensor in generator.state_dict().items()
        if not name.endswith("num_batches_tracked")
    )


def test_the_public_folder(tiny) -> None:
    assert same_network(GOLDEN, tiny)
    assert same_network(GOLDEN / "models" / "best.ckpt", tiny)


@pytest.mark.parametrize("prefix", ["", "model.", "generator.", "module.generator.", "a.model.7.b."])
def test_any_prefix(tmp_path, tensors, tiny, prefix) -> None:
    torch.save({prefix + name: tensor for name, tensor in tensors.items()}, tmp_path / "weights.pth")
    assert same_network(tmp_path / "weights.pth", tiny)


def test_without_batchnorm_counters(tmp_path, tensors, tiny) -> None:
    kept = {name: tensor for name, tensor in tensors.items() if "num_batches" not in name}
    torch.save({"state_dict": kept}, tmp_path / "weights.ckpt")
    assert same_network(tmp_path / "weights.ckpt", tiny)


def test_torchscript(tmp_path, tiny) -> None:
    """The layout of big-lama.pt: a scripted module that holds the generator as `model`."""

    class Exported(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = tiny.generator

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.model(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(Exported().eval(), torch.rand(1, 4, 64, 64)).save(str(tmp_path / "big.pt"))
    assert same_network(tmp_path / "big.pt", tiny)


class Callback:
    """Stands for a class of the training tool, which a user does not have installed."""

    def __reduce__(self):
        return (Callback, ())


def test_a_training_tools_classes_are_neither_needed_nor_run(tmp_path, tensors, tiny, monkeypatch) -> None:
    path = tmp_path / "best.ckpt"
    torch.save({"state_dict": tensors, "callbacks": {Callback: {"best": Callback()}}}, path)
    monkeypatch.setattr(Callback, "__init__", lambda _: pytest.fail("a class named in the file was run"), raising=False)
    assert same_network(path, tiny)


class Malicious:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code in a pickle was run')",))


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_not_run(tmp_path, zipped) -> None:
    path = tmp_path / "evil.ckpt"
    if zipped:
        torch.save({"state_dict": Malicious()}, path)
    else:
        path.write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(ModelError):
        load_generator(path)


@pytest.mark.parametrize("half", [True, False])
def test_conversion_to_safetensors(tmp_path, tiny, half) -> None:
    target = tmp_path / "tiny.safetensors"
    CHECKPOINTS.convert(GOLDEN, target, half=half, train_size=64, learning_rate=0.03)
    for loaded in (load_model(str(target)), load_model("big-lama", weights=target)):
        assert (loaded.spec.train_size, loaded.spec.learning_rate) == (64, 0.03)
    with safe_open(target, framework="pt") as opened:
        stored = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16 if half else torch.float32}
    if not half:
        assert same_network(target, tiny)
    again = tmp_path / "again.safetensors"
    CHECKPOINTS.convert(target, again, split_block=1)
    assert len(load_model(str(again)).spec.stages) == len(load_model(str(target)).spec.stages) - 1
    assert load_model(str(again)).spec.train_size == 64
    CHECKPOINTS.convert(target, again, split_block=99)
    with pytest.raises(ModelError, match="its split_block is 99; expected 0 to"):
        load_model(str(again))


def test_values_beyond_half_precision_are_refused(tmp_path, tensors) -> None:
    torch.save(tensors | {"model.1.bn_l.running_var": torch.full((8,), 1e9)}, tmp_path / "weights.pth")
    with pytest.raises(ModelError, match=r"model.1.bn_l.running_var has values that do not fit torch.float16"):
        CHECKPOINTS.convert(tmp_path / "weights.pth", tmp_path / "out.safetensors", half=True)
    assert not (tmp_path / "out.safetensors").exists()


def refusal(path) -> str:
    with pytest.raises(ModelError) as caught:
        load_generator(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_what_is_not_a_lama_is_refused_by_name(tmp_path, tensors) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"conv1.weight": torch.zeros(3), "fc.bias": torch.zeros(2)}, path)
    assert "missing model.1.ffc.convl2l.weight; unexpected conv1.weight, fc.bias" in refusal(path)
    save_file(tensors | {"model.20.extra": torch.zeros(1)}, path)
    assert refusal(path).endswith("not a LaMa generator: unexpected model.20.extra.")
    lacking = [f"model.{i}.conv1.ffc.convg2g.conv2.weight" for i in (5, 6, 7)] + ["model.19.bias"]
    save_file({name: tensor for name, tensor in tensors.items() if name not in lacking}, path)
    assert f"missing {', '.join(lacking[:3])} and 1 more" in refusal(path)
    save_file(tensors | {"model.19.bias": torch.zeros(4)}, path)
    assert "model.19.bias has shape (4,), expected (3,)" in refusal(path)


def test_shapes_and_headers_without_sense_are_named(tmp_path, tensors) -> None:
    path = tmp_path / "odd.safetensors"
    name = next(name for name in tensors if name.endswith("convl2g.weight"))
    for odd in (torch.tensor(1.0), torch.zeros(1000, 2, 3, 3)):
        save_file({**tensors, name: odd}, path)
        with pytest.raises(ModelError, match=r"odd\.safetensors: not a LaMa generator"):
            load_generator(path)
    for header in ({"train_size": "0"}, {"learning_rate": "nan"}, {"learning_rate": "-1"}, {"train_size": "x"}):
        save_file(tensors, path, metadata=header)
        with pytest.raises(ModelError, match="header"):
            load_model(str(path))


def test_files_that_cannot_be_read(tmp_path) -> None:
    assert "expected a weights file, found nothing there" in refusal(tmp_path / "nothing.pt")
    assert "expected models/best.ckpt in this folder" in refusal(tmp_path)
    for name in ("words.pt", "words.safetensors", "words.ckpt"):
        (tmp_path / name).write_text("these are words, not weights\n" * 50)
        assert "not a readable weights file" in refusal(tmp_path / name)
    cut = tmp_path / "cut.ckpt"
    cut.write_bytes((GOLDEN / "models" / "best.ckpt").read_bytes()[:100_000])
    assert "not a readable weights file" in refusal(cut)
    torch.save([1, 2], tmp_path / "list.ckpt")
    assert "it holds a list, not named tensors" in refusal(tmp_path / "list.ckpt")


def test_conversion_reads_its_source_once(tmp_path, monkeypatch) -> None:
    reads = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: reads.append(args) or load(*args, **kwargs))
    CHECKPOINTS.convert(GOLDEN, tmp_path / "tiny.safetensors")
    assert len(reads) == 1
