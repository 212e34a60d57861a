import pytest
import torch

from lama.training.config import DiscriminatorConfig
from lama.training.discriminator import Discriminator
from lama.training.perceptual import DilatedResNet50, load_perceptual
from refiner.errors import ModelError


def test_discriminator_gives_logits_of_patches_and_every_layers_features():
    logits, features = Discriminator(DiscriminatorConfig(ndf=8, n_layers=3))(torch.rand(2, 3, 64, 64))
    # stride 2, 2, 2, 1 and the head's 1; padding 2 adds a pixel each time
    assert [f.shape[1:] for f in features] == [(8, 33, 33), (16, 17, 17), (32, 9, 9), (64, 10, 10)]
    assert logits.shape == (2, 1, 11, 11)


def test_discriminator_sees_patches_only():
    network = Discriminator(DiscriminatorConfig(ndf=4, n_layers=2)).eval()
    picture = torch.rand(1, 3, 128, 128)
    changed = picture.clone()
    changed[..., :16, :16] = 0
    moved = (network(picture)[0] - network(changed)[0]).abs().squeeze()
    assert moved[0, 0] > 0
    assert moved[-8:, -8:].max() == 0


def test_perceptual_network_keeps_an_eighth_of_the_side_and_looks_far():
    network = DilatedResNet50()
    features = network(torch.rand(1, 3, 64, 64))
    assert [tuple(f.shape[1:]) for f in features] == [(256, 16, 16), (512, 8, 8), (1024, 8, 8), (2048, 8, 8)]
    assert not any(p.requires_grad for p in network.parameters())
    assert network.layer4[0].conv2.dilation == (2, 2)
    assert network.layer4[1].conv2.dilation == (4, 4)


def test_perceptual_weights_load_by_the_public_names(tmp_path):
    there = DilatedResNet50()
    tensors = {n: t + 0.01 for n, t in there.state_dict().items() if not n.endswith("num_batches_tracked")}
    assert "layer3.0.downsample.0.weight" in tensors
    assert sum(t.numel() for n, t in tensors.items() if "running" not in n) == pytest.approx(23.5e6, rel=0.01)
    torch.save(tensors, tmp_path / "encoder.pth")
    loaded = load_perceptual(tmp_path / "encoder.pth")
    assert torch.equal(loaded.layer4[2].conv3.weight, tensors["layer4.2.conv3.weight"])
    assert not loaded.training


@pytest.mark.parametrize("content", [b"", b"garbage", b"hi", None])
def test_foreign_perceptual_weights_are_named(tmp_path, content):
    path = tmp_path / "encoder.pth"
    if content is None:
        torch.save({"conv1.weight": torch.zeros(64, 3, 3, 3)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"encoder\.pth"):
        load_perceptual(path)
